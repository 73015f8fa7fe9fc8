# When an account is due again after a success or a failure.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start(
	conf => "wfx_mt4.retry_base = 30s\nwfx_mt4.retry_cap = 10min\n");

# Returns the seconds to the next attempt of each account from the request of its last success,
# or from the last failure of one that had none.
sub delays
{
	my ($condition) = @_;
	return map { $_ + 0 } split(
		/\n/,
		$test->sql(
			"SELECT extract(epoch FROM next_sync_at - coalesce(observed_at, last_attempt))
			FROM mt4_integrations JOIN credential_assignments USING (credential_id)
			LEFT JOIN performance_data USING (trader_id) WHERE $condition ORDER BY 1"));
}

# Checks the bounds of the delays after a sync, and that they differ.
sub delays_are
{
	my ($account, $low, $high, $name) = @_;
	my @delays = delays("mt4_account_id ~ '^$account'");

	cmp_ok($delays[0], '>=', $low, "$name: at least $low s");
	cmp_ok($delays[-1], '<=', $high, "$name: at most $high s");
	cmp_ok($delays[-1], '>', $delays[0], "$name: with jitter");
	return;
}

$test->link_many(20, "'good-' || n");
$test->link_many(20, "'http-' || n || '~status-500'");
$test->link_many(5, "'auth-' || n || '~status-401'");
$test->link_many(5, "'forbidden-' || n || '~status-403'");
$test->link_many(5, "'unknown-' || n || '~status-404'");
$test->link_many(5, "'config/' || n");
$test->sync_all;

delays_are('good', 800, 1000, 'success');
delays_are('http', 1, 30, 'a first failure');
delays_are('auth', 1800, 86400, 'a wrong token');
delays_are('forbidden', 1800, 86400, 'a token without rights');
delays_are('unknown', 7200, 86400, 'an unknown account');
delays_are('config', 1800, 86400, 'what cannot be asked');

$test->sync_all foreach (1 .. 2);
delays_are('http', 1, 120, 'a third failure');
$test->sql('UPDATE mt4_integrations SET consecutive_failures = 100000');
$test->sync_all;
delays_are('http', 1, 600, 'the cap');
cmp_ok((delays("mt4_account_id ~ '^http'"))[-1], '>', 120, 'it has grown');

$test->sql(
	"UPDATE mt4_integrations SET poll_interval = '10 s';
	UPDATE mt4_integrations SET poll_interval = '0.1 s' WHERE mt4_account_id ~ '^good-1'"
);
$test->sync_all;
delays_are('good-[2-9]', 9, 11, 'an interval of its own');
delays_are('good-1', 0.9, 1.1, 'a short one counts as 1 s');

$test->stop;
done_testing();
