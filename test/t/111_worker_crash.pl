# Whatever ends the worker, no account stays in flight, none is lost, none is asked
# twice at once, and no balance goes backwards.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WfxTest;

my $accounts = 200;
my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '2s'
wfx_mt4.concurrency = 300
restart_after_crash = on
});
my $node = $test->node;
my $provider = $test->provider;

# Balances are counters of the provider; whatever is stored must only rise.
$test->sql(
	q{CREATE TABLE seen (trader_id uuid, old numeric, new numeric);
	CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
	BEGIN
		IF NEW.current_balance < OLD.current_balance THEN
			INSERT INTO seen VALUES (NEW.trader_id, OLD.current_balance, NEW.current_balance);
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER watch BEFORE UPDATE ON performance_data FOR EACH ROW EXECUTE FUNCTION watch()});
$test->wait_worker('running');
$provider->control('PUT', "counter/$_~delay-1500") foreach 1 .. $accounts;
$test->link_many($accounts, q{n || '~delay-1500'});

# Returns the pid of the worker as the server shows it, or nothing.
sub worker_pid
{
	my (undef, $output) = $node->psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'});
	return $output || undef;
}

sub in_flight { return $provider->stats->{in_flight}; }

foreach my $round (1 .. 5)
{
	WfxTest::wait_until(sub { in_flight() >= 190 }, 'requests in flight');
	my $pid = worker_pid();
	$test->close_sessions;
	ok(kill('KILL', $pid), "the worker is killed, round $round");
	WfxTest::wait_until(
		sub {
			my $new = eval { worker_pid() };
			defined $new && $new ne $pid;
		},
		'another worker');
}
foreach my $round (1 .. 50)
{
	my $pid = WfxTest::wait_until(sub { worker_pid() }, 'a worker');
	usleep(int(rand(300_000)));
	$node->psql('postgres', "SELECT pg_terminate_backend($pid)");
	WfxTest::wait_until(sub { (worker_pid() // 0) ne $pid }, 'the worker to go');
}

# An immediate shutdown with requests in flight.
WfxTest::wait_until(sub { in_flight() >= 10 }, 'requests in flight');
$node->stop('immediate');
$node->start;
$test->wait_worker('running');

my $now = $test->sql('SELECT clock_timestamp()');
WfxTest::wait_until(
	sub { $test->sql("SELECT count(*) FROM mt4_integrations WHERE last_sync > '$now'") == $accounts },
	'every account to be synchronised');
pass('every account is synchronised again');
is($test->sql('SELECT count(*) FROM seen'), 0, 'no balance went backwards');

# What is deactivated while a dead worker had it in flight does not stay so.
WfxTest::wait_until(sub { in_flight() >= 10 }, 'requests in flight');
$test->sql('UPDATE mt4_integrations SET is_active = false');
$test->close_sessions;
$node->stop('immediate');
$node->start;
$test->wait_worker('running');
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'syncing'}) == 0 },
	'nothing to be in flight');
pass('nothing stays in flight');

# The provider's own log: no two requests for one account at once.
my (%end, $overlaps);
$overlaps = 0;
foreach my $request (sort { $a->{start} <=> $b->{start} } $provider->requests)
{
	my $account = $request->{account} // next;
	$overlaps++ if defined $end{$account} && $request->{start} < $end{$account} - 0.005;
	$end{$account} = $request->{end};
}
cmp_ok(scalar keys %end, '==', $accounts, 'every account was asked for');
is($overlaps, 0, 'no account was asked for twice at once');

$test->stop;
done_testing();
