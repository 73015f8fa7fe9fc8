# Providers that are down, or ask for a pause, are left alone; when they are back
# every account is asked once.
use strict;
use warnings;

use FindBin;
use List::Util qw(max);
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep clock_gettime CLOCK_MONOTONIC);
use WfxTest;

my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1s'
wfx_mt4.retry_base = '1s'
wfx_mt4.retry_cap = '1h'
});
my $provider = $test->provider;
my $accounts = 100;

sub requests { return $provider->stats->{requests}; }
sub healthy
{
	return $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'
		AND last_sync > clock_timestamp() - interval '3 s'});
}

$test->wait_worker('running');
$test->link_many($accounts, 'n');
WfxTest::wait_until(sub { healthy() == $accounts }, 'all accounts to be fresh');

$provider->control('PUT', 'down');
WfxTest::wait_until(sub { healthy() == 0 }, 'the outage to be noticed');
WfxTest::wait_until(sub { ($test->worker->{reason} // '') =~ /does not answer/ }, 'the silence to be said');
my $before = requests();
usleep(5_000_000);
my $during = requests() - $before;
cmp_ok($during, '<=', 10, "a silent provider is asked rarely ($during requests in 5 s)");

$provider->control('PUT', 'up');
my $up = clock_gettime(CLOCK_MONOTONIC);
WfxTest::wait_until(sub { healthy() == $accounts }, 'all accounts to be fresh again');
pass('all accounts are fresh again soon after an outage');

# Those that were never asked in the outage are overdue, the others rest.
my %started;
$started{ int(10 * ($_->{start} - $up)) }++ foreach grep { $_->{start} >= $up } $provider->requests;
my $most = max(values %started);
cmp_ok($most, '<=', WfxTest::limit($accounts / 3), "they do not come all at once (at most $most in 100 ms)");

# A pause of one token leaves the others alone.
$test->reset;
$test->link_many(10, q{n || '~status-429~retry-5'}, 'paused');
$test->link_many(10, '100 + n', 'free');
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE error_code = 'rate_limited'}) == 10 },
	'the pause');
my $paused = scalar grep { ($_->{token} // '') =~ /paused/ } $provider->requests;
usleep(3_000_000);
is(scalar(grep { ($_->{token} // '') =~ /paused/ } $provider->requests),
	$paused, 'nothing is sent with a token that is paused');
is($test->sql(q{SELECT count(*) FROM mt4_integrations WHERE mt4_api_token = 'free'
	AND last_sync > clock_timestamp() - interval '3 s'}), 10, 'others go on');
$test->stop;
done_testing();
