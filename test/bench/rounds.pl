# Whether anything grows over many rounds, and whether connections and TLS sessions are used
# again: the worker, and a session that calls wfx_mt4_sync_all() again and again.
#
#	make bench BENCH=rounds
#
# A connection is counted by the provider, nginx; a handshake with the first request of its
# connection.  Ages are reached by setting the server's clocks forward.  Takes about half
# an hour; BENCH_ROUNDS and BENCH_ACCOUNTS make it shorter.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl", $FindBin::RealBin;
use Bench;
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $ROUNDS = $ENV{BENCH_ROUNDS} // 1000;
my $ACCOUNTS = $ENV{BENCH_ACCOUNTS} // 200;
# what MAX_IDLE_S and MAX_LIFETIME_S of http.c are
my ($IDLE_S, $LIFETIME_S) = (60, 600);

# one of these with BENCH_OVER=HTTP/2
my $only = quotemeta($ENV{BENCH_OVER} // '');
my @KINDS = (
	[ 'HTTP', undef, '' ],
	[ 'HTTP/2 over TLS', 128, '' ],
	[ 'HTTP/1.1 over TLS', 128, 'wfx_mt4.http2 = off' ]);

my $dir = PostgreSQL::Test::Utils::tempdir();
my $clock = "$dir/clock.so";
system_or_bail($ENV{CC} // 'cc', '-O2', '-Wall', '-Wextra', '-shared', '-fPIC', '-o', $clock,
	"$FindBin::RealBin/clock.c", '-ldl');

# Sets the clocks of all servers.
my $ahead_s = 0;
sub set_clock
{
	($ahead_s) = @_;
	open(my $file, '+<:raw', "$dir/clock") or die "clock: $!";
	print $file pack('q', $ahead_s);
	close $file or die "clock: $!";
	return;
}
append_to_file("$dir/clock", pack('q', 0));

# Which descriptors a process has, and how many of them are of its connections to a port.
sub descriptors
{
	my ($pid, $port) = @_;
	my $hex = sprintf '%04X', $port;
	my %to = map { (split)[9] => 1 } grep { (split)[2] =~ /:$hex$/ } split /\n/, slurp_file('/proc/net/tcp');
	my @links = map { readlink($_) // '' } glob("/proc/$pid/fd/*");
	return (scalar(@links), scalar grep { /^socket:\[(\d+)\]/ && $to{$1} } @links);
}

# Dies unless that many rounds of all accounts have been written since a time of the server.
sub check_rounds
{
	my ($test, $since, $rounds) = @_;
	my $written = $test->sql("SELECT count(*) FROM sync_history WHERE synced_at >= '$since' AND status = 'success'");
	die "$written of " . $rounds * $ACCOUNTS . ' syncs were written' if $written != $rounds * $ACCOUNTS;
	return;
}

# A round of the worker: everything is requested, and waited for.  One transaction tells it of
# 256 rows; with more it would read the whole table, once a second.
sub round_of_worker
{
	my ($test) = @_;
	$test->sql("CREATE TEMP TABLE since AS SELECT clock_timestamp() AS t;
		SELECT count(wfx_mt4_request_sync(id)) FROM mt4_integrations;
		DO \$\$
		BEGIN
		  FOR i IN 1 .. 20000 LOOP
		    IF (SELECT count(*) FROM mt4_integrations WHERE last_sync >= (SELECT t FROM since)) = $ACCOUNTS THEN
		      RETURN;
		    END IF;
		    PERFORM pg_sleep(0.005);
		  END LOOP;
		  RAISE 'the worker does not synchronise: %', (SELECT jsonb_agg(last_error) FROM mt4_integrations WHERE last_error IS NOT NULL);
		END \$\$");
	return;
}

# Counters of a provider.
sub counted
{
	my ($provider) = @_;
	my ($opened, $open) = $provider->connections;
	my ($full, $resumed) = $provider->handshakes;
	return { opened => $opened, open => $open, full => $full, resumed => $resumed };
}

# What has been counted between two times: connections opened, and handshakes if there are any.
sub between
{
	my ($from, $to, $provider) = @_;
	my $handshakes = sprintf ' (%d full, %d resumed)', $to->{full} - $from->{full}, $to->{resumed} - $from->{resumed};
	return ($to->{opened} - $from->{opened}) . ($provider->{tls} ? $handshakes : '');
}

# Rounds, and a row of the table about them.
sub run_rounds
{
	my ($name, $who, $pid, $round, $before, $test, $provider) = @_;
	my $since = $test->sql('SELECT clock_timestamp()');
	my $start = Bench::now();
	my @counted = $before // counted($provider);
	my %at;

	foreach my $n (1 .. $ROUNDS)
	{
		$round->();
		push @counted, counted($provider) if $n == 1;
		$at{$n} = [ Bench::anonymous_kb($pid), (descriptors($pid, $provider->{port}))[0] ]
		  if grep { $n == $_ } map { int($ROUNDS * $_) } 0.05, 0.1, 0.5, 1;
	}
	push @counted, counted($provider);
	check_rounds($test, $since, $ROUNDS);
	my @kept = sort { $a <=> $b } keys %at;
	Bench::row($who, $name, (map { sprintf '%.1f', $at{$_}[0] / 1024 } @kept),
		join(', ', map { $at{$_}[1] } @kept),
		between(@counted[ 0, 1 ], $provider), between(@counted[ 1, 2 ], $provider));
	note(sprintf '%s over %s: %.1f s', $who, $name, Bench::now() - $start);
	return;
}

# What becomes of connections when they are closed, or are old; a row of another table.
sub run_ages
{
	my ($name, $pid, $test, $provider) = @_;
	my $port = $provider->{port};
	my @row;

	round_of_worker($test);
	$provider->close_connections;
	my $before = counted($provider);
	round_of_worker($test);
	my $after = counted($provider);
	push @row, between($before, $after, $provider);

	# idle, and nothing is due
	my ($had) = (descriptors($pid, $port))[1];
	set_clock($ahead_s + $IDLE_S + 5);
	sleep 5;
	push @row, "$had, " . (descriptors($pid, $port))[1];
	my $id = $test->sql('SELECT id FROM mt4_integrations LIMIT 1');
	my $since = $test->sql('SELECT clock_timestamp()');
	$test->sql("SELECT wfx_mt4_request_sync('$id')");
	WfxTest::wait_until(sub { $test->sql("SELECT last_sync >= '$since' FROM mt4_integrations WHERE id = '$id'") eq 't' }, 'a sync');
	push @row, (descriptors($pid, $port))[1];

	# in use, until they are too old
	round_of_worker($test);
	my $start = counted($provider);
	my ($age, $opened) = (0, 0);
	my @steps;
	while ($age < $LIFETIME_S + 100)
	{
		$age += 50;
		set_clock($ahead_s + 50);
		round_of_worker($test);
		my $now = counted($provider);
		my $new = $now->{opened} - $start->{opened};
		push @steps, "$new at $age s" if $new > $opened;
		$opened = $new;
	}
	push @row, join(', ', @steps) || 'none';
	return [ $name, @row ];
}

my @ages;
Bench::say("$ACCOUNTS accounts, latency 20 ms, $ROUNDS rounds\n");
Bench::head('', 'over', (map { 'MB at ' . int($ROUNDS * $_) } 0.05, 0.1, 0.5, 1), 'descriptors', 'opened in the first', 'in all others');
foreach my $kind (grep { $_->[0] =~ /^$only/ } @KINDS)
{
	my ($name, $tls, $setting) = @$kind;
	my $provider = Bench::Nginx->start(cpu => 1, latency_ms => 20, tls => $tls, count => 1);
	my $test = WfxTest->start(
		name => 'rounds' . $name =~ s/\W+//gr,
		env => { LD_PRELOAD => $clock, WFX_BENCH_CLOCK => "$dir/clock" },
		conf => "shared_preload_libraries = 'wfx_mt4'\nwfx_mt4.databases = 'postgres'\nwfx_mt4.poll_interval = '12h'\n"
		  . "wfx_mt4.concurrency = 1000\nlog_statement = none\nmax_locks_per_transaction = 1000\n$setting\n"
		  . (defined $tls ? "wfx_mt4.ca_file = '@{[ $provider->certificate ]}'\n" : ''));

	$test->wait_worker('running');
	my $before = counted($provider);
	$test->link_many($ACCOUNTS, 'n', 'token-1', $provider->endpoint);
	my $worker = $test->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'});
	WfxTest::wait_until(sub { $test->sql("SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'") == $ACCOUNTS }, 'a sync');
	run_rounds($name, 'worker', $worker, sub { round_of_worker($test) }, $before, $test, $provider);
	push @ages, run_ages($name, $worker, $test, $provider);
	my $session = $test->session;
	my $pid = WfxTest::pid_of($session);
	$session->query_safe('SET client_min_messages = error');
	run_rounds($name, 'session', $pid, sub { $session->query_safe('SELECT wfx_mt4_sync_all()') }, undef, $test, $provider);
	my $left = (descriptors($pid, $provider->{port}))[1];
	die "the session has kept $left connections" if $left > ($tls ? 16 : 0);
	$session->quit;
	my $last = $test->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'});
	die 'the worker has ended' if $last != $worker;
	$test->stop;
	$provider->stop;
}
Bench::say("\nConnections of the worker\n");
Bench::head('over', 'opened in a round after the provider has closed all', "kept, and $IDLE_S s idle",
	'after one more request', "opened in rounds 50 s apart");
Bench::row(@$_) foreach @ages;
Bench::say('');
ok(1, 'measured');
done_testing();
