# wfx_mt4_request_sync queues integrations; the next run takes them first, and
# as something that people asked for.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $later = "now() + interval '1 h'";
my $oldest = $test->link('oldest', next_sync_at => '2000-01-01');
my $wanted = $test->link('wanted');
my $inactive = $test->link('inactive', is_active => 'false');
$test->sql(
	"UPDATE mt4_integrations SET next_sync_at = $later WHERE id = '$wanted'");

is($test->sql('SELECT wfx_mt4_request_sync(gen_random_uuid())'), 0,
	'unknown');
is($test->sql("SELECT wfx_mt4_request_sync('$inactive')"), 0, 'inactive');
$test->sql("BEGIN; SELECT wfx_mt4_request_sync('$wanted'); ROLLBACK");
is($test->json('SELECT wfx_mt4_sync_due(0)')->{remaining},
	1, 'one that was rolled back is not due');

is( $test->sql(
		"BEGIN; SELECT wfx_mt4_request_sync('$wanted');
		SELECT current_setting('response.status'); COMMIT"),
	"1\n202",
	'one was queued');
is($test->provider->stats->{requests}, 0, 'nothing is sent yet');

$test->json('SELECT wfx_mt4_sync_due(1)');
is_deeply(
	$test->provider->stats->{by_account},
	{ wanted => 1 },
	'it comes before what is due for long');
is($test->history($wanted)->{sync_type}, 'manual', 'as a manual sync');

$test->sql("UPDATE mt4_integrations SET next_sync_at = $later");
is($test->sql('SELECT wfx_mt4_request_sync()'), 2, 'all active ones');
$test->sql('CALL wfx_mt4_run_due()');
is($test->history($_)->{sync_type}, 'manual', 'manual in a run, too')
  foreach ($oldest, $wanted);
is($test->json('SELECT wfx_mt4_sync_due()')->{synced}, 0, 'only once');

# A request that comes while the account is being fetched is not lost.
my $slow = $test->link('slow~delay-300');
my $session = $test->session;
foreach my $run ('SELECT wfx_mt4_sync_due()', 'CALL wfx_mt4_run_due()')
{
	$test->sql(
		"UPDATE mt4_integrations SET next_sync_at = '2000-01-01' WHERE id = '$slow'"
	);
	WfxTest::send_query($session, $run);
	$test->wait_in_flight(1);
	is($test->sql("SELECT wfx_mt4_request_sync('$slow')"),
		1, "queued during $run");
	WfxTest::finish_query($session);
	is($test->history($slow)->{sync_type}, 'automatic', 'the run was none');
	is($test->json('SELECT wfx_mt4_sync_due()')->{synced},
		1, 'the next one is');
	is($test->history($slow)->{sync_type}, 'manual', 'and manual');
}

$session->quit;
$test->stop;
done_testing();
