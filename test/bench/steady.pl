# The worker in steady state: does it keep up, how late are requests, what does a sync cost
# where there are many accounts.  Takes about ten minutes:
#
#	make bench BENCH=steady
#
# BENCH_SIZES lists accounts:seconds[:tokens], BENCH_WINDOW says for how many seconds is measured,
# BENCH_TOGETHER how many neighbours in the tables are due at once: 16 is what the worker makes of
# them in ten intervals.
# A request is late by the time from when its account was due to when it was sent: synced_at less
# duration_ms, so that the wait for being stored, up to 20 ms and more, counts as late too.
#
# The provider answers after 200 ms.  The worker has the first processor; the provider, every
# other process of the server and this program have the second.  The tables are filled with what
# they hold when every account has been synchronised before, and accounts are due evenly spread
# over the interval.  One account in ten has another balance each time.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl", $FindBin::RealBin;
use Bench;
use List::Util qw(max min sum);
use PostgreSQL::Test::Utils;
use POSIX qw();
use Test::More;
use Time::HiRes qw(usleep);
use WfxTest;

my $SIZES = $ENV{BENCH_SIZES} // '10000:6 10000:6:1 10000:9 100000:60 1000000:900';
my $WINDOW = $ENV{BENCH_WINDOW} // 60;
my $TOGETHER = $ENV{BENCH_TOGETHER} // 1;
my $LATENCY_MS = 200;
# Rows in a page of the schedule, see src/intake.c.
my $PAGE_ROWS = 5000;
# Rows that are planted at once.
my $PORTION = 250_000;

# What the worker's statements are for, by parts of their texts; the first that fits counts.
my @KINDS = (
	[ 'read the schedule', 'SELECT i.id, CASE WHEN i.sync_status%ORDER BY i.id LIMIT%' ],
	[ 'read what has changed', 'SELECT i.id, CASE WHEN i.sync_status%' ],
	[ 'look for what was put off', 'SELECT i.id FROM % i WHERE i.is_active AND i.sync_status::text = %' ],
	[ 'look for orphans', 'SELECT i.id FROM % i WHERE i.sync_status::text = %' ],
	[ 'claim: read', 'SELECT i.id, i.mt4_account_id::text%' ],
	[ 'claim: mark', 'UPDATE % AS i SET   sync_status = %RETURNING v.n, i.ctid' ],
	[ 'store: mt4_integrations', 'UPDATE % AS i SET%' ],
	[ 'store: performance_data', '%UPDATE %performance_data%' ],
	[ 'store: sync_history', 'INSERT INTO %sync_history%' ],
	[ 'store: account_snapshots', 'INSERT INTO %account_snapshots%' ]);

STDOUT->autoflush;

my $test = WfxTest->start(conf => q{
shared_preload_libraries = 'wfx_mt4, pg_stat_statements'
pg_stat_statements.track = none
shared_buffers = 4GB
max_wal_size = 64GB
checkpoint_timeout = 1h
wal_keep_size = 8GB
log_statement = none
max_locks_per_transaction = 1000
max_parallel_workers_per_gather = 0
wfx_mt4.concurrency = 2000
});
my $node = $test->node;
my $provider = Bench::Nginx->start(cpu => 1, latency_ms => $LATENCY_MS, moving => '0');
my $waldump = $node->config_data('--bindir') . '/pg_waldump';
my @TABLES = qw(traders trading_credentials credential_assignments performance_data account_snapshots sync_history mt4_integrations);

# Sessions of the test's own end after a while.
sub sql { return $node->safe_psql('postgres', "SET client_min_messages = error; $_[0]"); }

sub lsn { return sql('SELECT pg_current_wal_insert_lsn()'); }

sub setting
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = '$value'");
	return;
}

sub reload { sql('SELECT pg_reload_conf()'); usleep(200_000); return; }

# This program and all processes of the server to these processors, what they start included.
sub pin_server
{
	my ($cpus) = @_;
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];

	return if Bench::processors() < 2;
	foreach my $pid ($$, $postmaster, split /\n/, `pgrep -P $postmaster`)
	{
		# one that has ended meanwhile need not be pinned
		run_log([ 'taskset', '--cpu-list', '--pid', $cpus, $pid ]) or -e "/proc/$pid" and die "could not pin $pid";
	}
	return;
}

#---------------------------------------------------------------------------
# Accounts
#---------------------------------------------------------------------------

# A real sync of one account says what the rows look like.
sub take_samples
{
	$test->reset;
	my $id = $test->link('1', mt4_server_endpoint => $provider->endpoint);
	my $result = $test->sync($id);
	die "no sync: $result->{message}" unless $result->{success};
	sql("DROP TABLE IF EXISTS sample_$_; CREATE TABLE sample_$_ AS SELECT * FROM $_") foreach @TABLES;
	sql('TRUNCATE ' . join(', ', @TABLES) . ' CASCADE');
	$test->close_sessions;
	return;
}

# Copies a table's sample for the accounts from one number to another, with some columns changed.
sub plant_table
{
	my ($table, $from, $to, %values) = @_;
	my @names = split /\n/, sql("SELECT attname FROM pg_attribute
		WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''");
	my $values = join ', ', map { $values{$_} // "s.$_" } @names;

	# foreign keys and triggers have nothing to say about these rows
	sql("SET session_replication_role = replica; INSERT INTO $table (" . join(', ', @names) . ")
		SELECT $values FROM plan p, sample_$table s WHERE p.n BETWEEN $from AND $to");
	return;
}

# An id that begins with a time, as rows of sync_history have.
my $TIMED_ID = q{(lpad(to_hex((extract(epoch FROM p.before) * 1000)::bigint), 12, '0') || '7'
	|| substr(p.trader::text, 2, 2) || left(p.trader::text, 1) || '8' || substr(replace(p.credential::text, '-', ''), 1, 15))::uuid};

# Does several things at once, each in a process of its own.
sub in_parallel
{
	my (@work) = @_;
	my @pids;

	foreach my $work (@work)
	{
		my $pid = fork() // die "could not fork: $!";
		# what this program does at its end is not the child's
		POSIX::_exit(eval { $work->(); 1 } ? 0 : 1) if $pid == 0;
		push @pids, $pid;
	}
	my $failed = grep { waitpid($_, 0) < 0 || $? != 0 } @pids;
	die "$failed processes failed" if $failed;
	return;
}

# Fills the tables.  Returns when the first account is due, in seconds of the server's clock.
sub plant
{
	my ($accounts, $interval, $tokens) = @_;
	my %values = (
		traders => { id => 'p.trader', full_name => "'Trader ' || p.n" },
		trading_credentials => { id => 'p.credential', account_number => 'p.n' },
		credential_assignments => { id => 'gen_random_uuid()', trader_id => 'p.trader', credential_id => 'p.credential' },
		performance_data => { id => 'gen_random_uuid()', trader_id => 'p.trader' },
		account_snapshots => { integration_id => 'p.id', trader_id => 'p.trader',
			observed_at => 'p.before - random() * make_interval(secs => 300)' },
		sync_history => { id => $TIMED_ID, integration_id => 'p.id', synced_at => 'p.before', sync_type => q{'automatic'} },
		mt4_integrations => { id => 'p.id', credential_id => 'p.credential', mt4_account_id => 'p.n',
			mt4_api_token => "'token-' || p.n % $tokens", next_sync_at => 'p.due',
			# otherwise it would count as put off by a clock that was set back
			map { $_ => "p.due - make_interval(secs => $interval)" } qw(last_attempt last_sync updated_at) });

	pin_server('0,1');
	take_samples();
	sql("DROP TABLE IF EXISTS plan; CREATE UNLOGGED TABLE plan AS
		SELECT n, gen_random_uuid() AS id, gen_random_uuid() AS trader, gen_random_uuid() AS credential,
			(hashint8extended(n / $TOGETHER, 0) & 4294967295) / 4294967296.0 * $interval AS after, clock_timestamp() AS before, clock_timestamp() AS due
		FROM generate_series(1, $accounts) AS n");
	my $begun = Bench::now();
	my $fill = sub {
		my ($table, $from, $to) = @_;
		for (my $n = $from; $n <= $to; $n += $PORTION)
		{
			plant_table($table, $n, min($to, $n + $PORTION - 1), %{ $values{$table} });
		}
	};
	my @tables = grep { $_ ne 'mt4_integrations' } @TABLES;
	in_parallel(
		sub { $fill->($_, 1, $accounts) foreach @tables[ grep { $_ % 2 == 0 } 0 .. $#tables ] },
		sub { $fill->($_, 1, $accounts) foreach @tables[ grep { $_ % 2 == 1 } 0 .. $#tables ] });
	# what is left takes half as long, or so
	my $left = 5 + 0.5 * (Bench::now() - $begun);
	my $start = sql("SELECT extract(epoch FROM clock_timestamp()) + $left");
	print "# $accounts: the others after @{[ Bench::now() - $begun ]} s\n";
	sql("UPDATE plan SET due = to_timestamp($start + after)");
	my $half = int($accounts / 2);
	in_parallel(sub { $fill->('mt4_integrations', 1, $half) }, sub { $fill->('mt4_integrations', $half + 1, $accounts) });
	print "# $accounts: all after @{[ Bench::now() - $begun ]} s\n";
	in_parallel(map { my @part = @$_; sub { sql("VACUUM ANALYZE $_") foreach @part } }
		[ qw(mt4_integrations performance_data) ], [ 'plan', grep { !/mt4_integrations|performance_data/ } @TABLES ]);
	print "# $accounts: vacuumed after @{[ Bench::now() - $begun ]} s\n";
	sql('CHECKPOINT');
	my $planted = sql('SELECT count(*) FROM mt4_integrations');
	die "planted $planted accounts" if $planted != $accounts;
	return $start;
}

#---------------------------------------------------------------------------
# The service
#---------------------------------------------------------------------------

# How often and how long statements of a kind ran: calls and milliseconds by kind.
sub statements
{
	my $case = join ' ', map { "WHEN query LIKE '$_->[1]' THEN '$_->[0]'" } @KINDS;
	my %seen;

	# the texts have line ends and blanks where they were written so
	foreach my $line (split /\n/, sql("SELECT CASE $case ELSE 'others' END, sum(calls), sum(total_exec_time), max(max_exec_time)
		FROM pg_stat_statements WHERE query NOT LIKE 'SET client_min_messages%' GROUP BY 1"))
	{
		my ($kind, $calls, $ms, $max) = split /\|/, $line;
		$seen{$kind} = { calls => $calls, ms => $ms, max => $max };
	}
	return \%seen;
}

sub track
{
	my ($what) = @_;
	sql('SELECT pg_stat_statements_reset()') if $what ne 'none';
	setting('pg_stat_statements.track', $what);
	reload();
	return;
}

# Bytes of the queue: those of its table and its heap are contexts of their own.
sub queue_kb
{
	my ($pid) = @_;
	my $from = -s $node->logfile;
	sql("SELECT pg_log_backend_memory_contexts($pid)");
	my $log = WfxTest::wait_until(sub {
		my $log = substr(slurp_file($node->logfile), $from);
		return $log =~ /Grand total/ ? $log : '' }, 'the contexts');
	my %kb;
	$kb{$1} = $2 / 1024 while $log =~ /(wfx_mt4 \w+): (\d+) total/g;
	return \%kb;
}

# Starts the worker when the first account is due; returns what was seen until all were on time.
sub start_service
{
	my ($accounts, $start) = @_;
	my %seen;

	pin_server('1');
	track('top');
	my $early = $start - sql('SELECT extract(epoch FROM clock_timestamp())');
	die 'to plant took longer than was reckoned with' if $early < 0;
	usleep(1e6 * $early);
	setting('wfx_mt4.databases', 'postgres');
	sql('SELECT pg_reload_conf()');
	my ($pid, $began) = split /\|/, WfxTest::wait_until(sub {
		sql("SELECT pid, extract(epoch FROM backend_start) FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'") },
		'the worker');
	Bench::pin($pid, 0);
	my $pages = int($accounts / $PAGE_ROWS) + 1;
	WfxTest::wait_until(sub { (statements()->{'read the schedule'}{calls} // 0) >= $pages }, 'the schedule to be read');
	$seen{read} = sql('SELECT extract(epoch FROM clock_timestamp())') - $began;
	$seen{pid} = $pid;
	$seen{began} = $began;
	$seen{statements} = statements();
	usleep(5e6);
	$seen{first} = sql("SELECT extract(epoch FROM min(synced_at - duration_ms * interval '1 ms')) - $began
		FROM sync_history WHERE synced_at > to_timestamp($began)");
	track('none');
	return \%seen;
}

# Waits until no account is overdue; returns how long after the worker's begin that was.
sub wait_steady
{
	my ($began) = @_;
	WfxTest::wait_until(sub { usleep(500_000); lag() < 1 }, 'accounts that are overdue');
	return clock() - $began;
}

#---------------------------------------------------------------------------
# A window
#---------------------------------------------------------------------------

# Bytes of records and of page images, and commits, between two places of the log.
sub logged
{
	my ($from, $to) = @_;
	my ($stats) = run_command([ $waldump, '--stats=record', '--path', $node->data_dir . '/pg_wal', '--start', $from, '--end', $to ]);
	my ($records, $images) = $stats =~ /^Total\s+\d+\s+(\d+) \[[^\]]*\]\s+(\d+)/m or die "pg_waldump: $stats";
	my ($commits) = $stats =~ m{^Transaction/COMMIT\s+(\d+)}m or die "no commits: $stats";
	return ($records, $images, $commits);
}

sub clock { return sql('SELECT extract(epoch FROM clock_timestamp())'); }

# How long the oldest account has been due, among those that are not in flight.
sub lag
{
	return sql("SELECT coalesce(extract(epoch FROM clock_timestamp() - min(next_sync_at)), 0) FROM mt4_integrations
		WHERE is_active AND sync_status <> 'syncing' AND next_sync_at < clock_timestamp()");
}

# Syncs between two times, all of which must have succeeded.
sub synced
{
	my ($from, $to) = @_;
	my ($all, $good) = split /\|/, sql("SELECT count(*), count(*) FILTER (WHERE status = 'success') FROM sync_history
		WHERE synced_at >= to_timestamp($from) AND synced_at < to_timestamp($to)");
	die "$good of $all syncs succeeded: " . sql("SELECT error_message FROM sync_history WHERE status <> 'success' LIMIT 1")
	  if $all == 0 || $good != $all;
	return $all;
}

# How late requests were: median, 99 %, the latest, and how many of them.  What was due and was
# never asked counts as asked now.
sub lateness
{
	my ($from, $to) = @_;
	return split /\|/, sql("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY late), percentile_disc(0.99) WITHIN GROUP (ORDER BY late),
			max(late), count(*)
		FROM (SELECT extract(epoch FROM coalesce(h.at, to_timestamp($to)) - d.next_sync_at) AS late
			FROM due_then d LEFT JOIN LATERAL (SELECT min(h.synced_at) - min(h.duration_ms) * interval '1 ms' AS at FROM
				(SELECT * FROM sync_history h WHERE h.integration_id = d.id AND h.synced_at >= to_timestamp($from)
				ORDER BY h.synced_at LIMIT 1) h) h ON true
			WHERE d.next_sync_at >= to_timestamp($from) AND d.next_sync_at < to_timestamp($to) - interval '1 second') l");
}

sub relation_mb
{
	return { map { split /\|/ } split /\n/, sql('SELECT relname, round((pg_relation_size(oid) + 0.0) / 1048576, 1) FROM pg_class WHERE relname IN ('
		  . join(', ', map { "'$_'" } qw(mt4_integrations mt4_integrations_pkey performance_data performance_data_trader_id_key
			performance_data_profit_percentage_achieved_at_trader_id_idx account_snapshots sync_history sync_history_integration_id_synced_at_idx)) . ')') };
}

sub measure
{
	my ($pid) = @_;
	my %m;

	sql("DROP TABLE IF EXISTS due_then; CREATE UNLOGGED TABLE due_then AS SELECT id, next_sync_at FROM mt4_integrations
		WHERE sync_status <> 'syncing'; ANALYZE due_then");
	$m{mb_before} = relation_mb();
	my ($lsn, $from) = (lsn(), clock());
	my ($cpu, $waited, $start) = (Bench::cpu_us($pid), Bench::waited_us($pid), Bench::now());
	$m{memory_before} = Bench::anonymous_kb($pid);
	my @lags;
	while (Bench::now() - $start < $WINDOW)
	{
		push @lags, lag();
		usleep(1e6 * max(0, $start + @lags - Bench::now()));
	}
	$cpu = Bench::cpu_us($pid) - $cpu;
	$waited = Bench::waited_us($pid) - $waited;
	my $to = clock();
	my $wall = Bench::now() - $start;
	$m{memory_after} = Bench::anonymous_kb($pid);
	my $end = lsn();
	my $syncs = $m{syncs} = synced($from, $to);
	($m{late_half}, $m{late_99}, $m{late_max}, $m{late_n}) = lateness($from, $to);
	my ($records, $images, $commits) = logged($lsn, $end);
	$m{mb_after} = relation_mb();
	$m{lag} = max(@lags);
	$m{rate} = $syncs / $wall;
	$m{share} = $cpu / 1e6 / $wall;
	$m{waited} = $waited / 1e6 / $wall;
	$m{cpu} = $cpu / $syncs;
	$m{records} = $records / $syncs;
	$m{images} = $images / $syncs;
	$m{commits} = $commits / $wall;
	die 'the worker has been restarted' if sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") != 1;
	return \%m;
}

# The worker's statements for a while: microseconds of each kind for each sync.
sub measure_statements
{
	track('top');
	sql('SELECT pg_stat_statements_reset()');
	my $from = clock();
	usleep(15e6);
	my $seen = statements();
	my $syncs = synced($from, clock());
	track('none');
	return { map { $_ => { us => 1000 * $seen->{$_}{ms} / $syncs, calls => $seen->{$_}{calls}, rows => $syncs / $seen->{$_}{calls} } } keys %$seen };
}

sub run_size
{
	my ($accounts, $interval, $tokens) = @_;
	my $begun = Bench::now();

	setting('wfx_mt4.poll_interval', "${interval}s");
	reload();
	my $start = plant($accounts, $interval, $tokens);
	my $planted = Bench::now();
	print "# $accounts planted after @{[ $planted - $begun ]} s\n";
	my $seen = start_service($accounts, $start);
	my $pid = $seen->{pid};
	$seen->{steady} = wait_steady($seen->{began});
	# pages of the small tables are logged whole by now
	usleep(1e6 * ($interval < 30 ? 2 * $interval : 5));
	print "# measuring\n";
	my $m = measure($pid);
	print "# statements\n";
	$m->{kinds} = measure_statements();
	$m->{together} = sum(map { $m->{kinds}{$_}{us} } grep { /^(?:claim|store):/ } keys %{ $m->{kinds} });
	$m->{contexts} = queue_kb($pid);
	$m->{start} = $seen;
	$m->{name} = "$accounts / ${interval}s" . ($tokens == 1 ? ', one token' : '');
	$m->{due} = $accounts / $interval;
	$m->{accounts} = $accounts;
	print "# $m->{name}: " . join(', ', map { "$_ $m->{$_}" } grep { !ref $m->{$_} } sort keys %$m) . "\n";
	setting('wfx_mt4.databases', '');
	reload();
	WfxTest::wait_until(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'") == 0 }, 'the worker to leave');
	return $m;
}

#---------------------------------------------------------------------------
# Figures
#---------------------------------------------------------------------------

sub show
{
	my (@all) = @_;
	my @small = grep { $_->{accounts} == 10_000 } @all;
	# what it costs with 10,000 accounts, at the rate that is nearest
	my $same = sub {
		my ($m) = @_;
		my ($nearest) = sort { abs($a->{due} - $m->{due}) <=> abs($b->{due} - $m->{due}) } @small;
		return $nearest;
	};

	Bench::say("The worker has the first processor, provider (200 ms), other processes of the server and the bench the second.");
	Bench::say("snapshot_interval is 5 min, positions are not asked for, 10 % of the balances change; autovacuum is on.");
	Bench::say("Where the worker waited for its processor others disturbed it.\n");
	Bench::head('accounts / poll_interval', 'due/s', 'syncs/s', 'share of a processor', 'and waited for it', 'CPU us per sync', 'of 10,000 at that rate',
		'oldest due: most s', 'requests late: half, s', '99 %', 'most');
	Bench::row($_->{name}, sprintf('%.0f', $_->{due}), sprintf('%.0f', $_->{rate}), sprintf('%.2f', $_->{share}), sprintf('%.2f', $_->{waited}), sprintf('%.0f', $_->{cpu}),
		(defined $same->($_) ? sprintf('%.2f', $_->{cpu} / $same->($_)->{cpu}) : ''), sprintf('%.2f', $_->{lag}),
		map { sprintf '%.3f', $_ } @$_{qw(late_half late_99 late_max)}) foreach @all;
	Bench::say('');
	Bench::head('accounts / poll_interval', 'memory MB', "after $WINDOW s", 'queue MB', 'log, bytes per sync: records', 'page images', 'commits/s', 'syncs per claim');
	Bench::row($_->{name}, map({ sprintf '%.1f', $_ / 1024 } @$_{qw(memory_before memory_after)}, $_->{contexts}{'wfx_mt4 integrations'} + $_->{contexts}{'wfx_mt4 service'}),
		map({ sprintf '%.0f', $_ } @$_{qw(records images commits)}), sprintf('%.0f', $_->{kinds}{'claim: mark'}{rows} // die 'no claim was seen')) foreach @all;
	Bench::say('');
	Bench::head('from the start of the worker, s', 'first request', 'schedule read', 'none overdue', 'pages, ms each', 'longest', 'look for what was put off, ms', 'orphans');
	foreach my $m (@all)
	{
		my $s = $m->{start}{statements};
		my $page = $s->{'read the schedule'};
		Bench::row($m->{name}, map({ sprintf '%.2f', $_ } @{ $m->{start} }{qw(first read steady)}),
			sprintf('%.1f', $page->{ms} / $page->{calls}), sprintf('%.1f', $page->{max}),
			map { sprintf '%.1f', $s->{$_}{ms} // 0 } 'look for what was put off', 'look for orphans');
	}
	Bench::say("\nus of each statement for each sync, without commits\n");
	Bench::head('', map { $_->{name} } @all);
	Bench::row('claim and store together', map { sprintf '%.1f', $_->{together} } @all);
	Bench::row('the same, of 10,000 at that rate', map { sprintf '%.2f', $_->{together} / $same->($_)->{together} } @all) if @small;
	foreach my $kind (map({ $_->[0] } @KINDS), 'others')
	{
		Bench::row($kind, map { sprintf '%.1f', $_->{kinds}{$kind}{us} // 0 } @all) if grep { defined $_->{kinds}{$kind} } @all;
	}
	Bench::say("\nMB before and after $WINDOW s\n");
	Bench::head('', map { $_->{name} } @all);
	foreach my $relation (sort keys %{ $all[0]{mb_after} })
	{
		Bench::row($relation, map { "$_->{mb_before}{$relation}, $_->{mb_after}{$relation}" } @all);
	}
	Bench::say('');
	return;
}

sql('CREATE EXTENSION pg_stat_statements');
my @all;
foreach my $size (split ' ', $SIZES)
{
	my ($accounts, $interval, $tokens) = split /:/, $size;
	push @all, run_size($accounts, $interval, $tokens // 20);
}
show(@all);
$test->stop;
$provider->stop;
ok(1, 'measured');
done_testing();
