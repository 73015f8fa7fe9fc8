# What a request in flight takes of memory: of the session that calls wfx_mt4_sync_all(), and
# of floor.c beside it.  Accounts are the same in all calls, so that the difference is that
# of the requests at once.
#
#	make bench BENCH=memory
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl", $FindBin::RealBin;
use Bench;
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WfxTest;

my $ACCOUNTS = $ENV{BENCH_ACCOUNTS} // 4000;
my $FEW = 100;
my $floor = Bench::build_floor("$FindBin::RealBin/floor.c");

# The most anonymous memory in kB that a process has while a statement runs in it.
sub peak_of
{
	my ($test, $settings) = @_;
	my $session = $test->session;
	my $pid = WfxTest::pid_of($session);
	my $peak = 0;

	$session->query_safe("SET client_min_messages = error; $settings");
	WfxTest::send_query($session, "SELECT CASE WHEN r ->> 'synced' = '$ACCOUNTS' THEN r ->> 'message' ELSE 1 / (r IS NULL)::int || '' END FROM wfx_mt4_sync_all() AS r");
	while ($test->sql("SELECT state = 'active' FROM pg_stat_activity WHERE pid = $pid") eq 't')
	{
		my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
		$peak = max($peak, $kb);
		usleep(5_000);
	}
	my (undef, $state) = WfxTest::finish_query($session);
	die "not everything was synchronised: $state" if ($state // '') !~ /^(?:00000)?$/;
	$session->quit;
	return $peak;
}

Bench::say("$ACCOUNTS accounts, latency 1 s\n");
Bench::head('', "MB at $FEW in flight", "MB at $ACCOUNTS", 'kB for each request more', 'floor.c: kB');
foreach my $kind ([ 'HTTP', undef, '' ], [ 'HTTP/2 over TLS', 128, '' ], [ 'HTTP/1.1 over TLS', 128, 'SET wfx_mt4.http2 = off' ])
{
	my ($name, $tls, $setting) = @$kind;
	my $provider = Bench::Nginx->start(cpu => 1, latency_ms => 1000, tls => $tls);
	my $test = WfxTest->start(
		name => 'memory' . $name =~ s/\W+//gr,
		conf => "max_locks_per_transaction = 1000\nlog_statement = none\nwfx_mt4.request_timeout = '120s'\n"
		  . "wfx_mt4.connect_timeout = '60s'\n" . (defined $tls ? "wfx_mt4.ca_file = '@{[ $provider->certificate ]}'\n" : ''));
	my @options = ('-n', $ACCOUNTS, ($name eq 'HTTP/2 over TLS' ? '-2' : ()));

	$test->link_many($ACCOUNTS, 'n', 'token-1', $provider->endpoint);
	my ($few, $many) = map { peak_of($test, "SET wfx_mt4.concurrency = $_; $setting") } $FEW, $ACCOUNTS;
	my @floor = map { (split ' ', (run_command([ $floor, @options, '-c', $_, $provider->endpoint . '/accounts/' ]))[0])[3] } $FEW, $ACCOUNTS;
	Bench::row($name, map({ sprintf '%.1f', $_ / 1024 } $few, $many),
		map { sprintf '%.1f', $_ / ($ACCOUNTS - $FEW) } $many - $few, $floor[1] - $floor[0]);
	$test->stop;
	$provider->stop;
}
Bench::say('');
ok(1, 'measured');
done_testing();
