# After a crash of a backend in the middle of a run, nothing is lost and nothing
# stays in flight.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start(conf => "restart_after_crash = on\n");
my $statuses =
  "SELECT string_agg(DISTINCT sync_status, ',') FROM mt4_integrations";

$test->link_many(10, "n || '~delay-5000'");
my $session = $test->session;
my $pid = WfxTest::pid_of($session);
WfxTest::send_query($session, 'CALL wfx_mt4_run_due()');
$test->wait_in_flight(10);
$test->close_sessions;

kill 'KILL', $pid;
$test->wait_in_flight(0);
$test->node->poll_query_until('postgres', $statuses, 'syncing')
  or die 'the server does not come back';
$session->{run}->finish;
is($test->sql('SELECT count(*) FROM sync_history'), 0, 'nothing was stored');

$test->sql(
	"UPDATE mt4_integrations SET mt4_account_id = split_part(mt4_account_id, '~', 1)"
);
$test->sql('CALL wfx_mt4_run_due()');
is($test->sql($statuses), 'success', 'the next run takes them all');
is($test->sql('SELECT count(*) FROM sync_history'), 10, 'each once');

$test->stop;
done_testing();
