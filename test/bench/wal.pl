# What a sync writes to the log, once pages have been logged since the checkpoint, and
# whether tables and indexes grow.  Takes about eight minutes:
#
#	make bench BENCH=wal
#
# The worker is measured when it has been running for a while, since it draws accounts
# together.  Positions are not asked for; snapshot_interval is 5 min.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl", $FindBin::RealBin;
use Bench;
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $ACCOUNTS = $ENV{BENCH_ACCOUNTS} // 4000;
my $ROUNDS = $ENV{BENCH_ROUNDS} // 100;
my $INTERVAL_S = 4;
my $provider = Bench::Nginx->start(cpu => 1);
my $test = WfxTest->start(conf => qq{
shared_preload_libraries = 'wfx_mt4'
shared_buffers = 512MB
max_wal_size = 8GB
checkpoint_timeout = 1h
log_statement = none
wal_keep_size = 8GB
max_locks_per_transaction = 1000
wfx_mt4.poll_interval = '${INTERVAL_S}s'
});
my $node = $test->node;
my $waldump = $node->config_data('--bindir') . '/pg_waldump';
my $round = 0;

$test->link_many($ACCOUNTS, 'n', 'token-1', $provider->endpoint);

# Sessions of the test's own end after a while.
sub sql { return $node->safe_psql('postgres', $_[0]); }

sub lsn { return sql('SELECT pg_current_wal_insert_lsn()'); }

# Bytes of records, and of images of whole pages, between two places of the log.
sub logged
{
	my ($from, $to) = @_;
	my ($stats) = run_command([ $waldump, '--stats', '--path', $node->data_dir . '/pg_wal', '--start', $from, '--end', $to ]);
	my ($records, $images) = $stats =~ /^Total\s+\d+\s+(\d+) \[[^\]]*\]\s+(\d+)/m or die "pg_waldump: $stats";
	return ($records, $images);
}

# Synchronises everything once, after the balances of some have changed.
sub sync_all
{
	my ($digits) = @_;
	my $before = sql('SELECT count(*) FROM sync_history');

	$provider->change(digit => $digits, round => ++$round);
	sql('SET client_min_messages = error; SELECT wfx_mt4_sync_all()');
	my $synced = sql('SELECT count(*) FROM sync_history') - $before;
	die "$synced of $ACCOUNTS were synchronised" if $synced != $ACCOUNTS;
	return;
}

# Lets the worker run, or not.
sub set_worker
{
	my ($databases) = @_;
	sql("ALTER SYSTEM SET wfx_mt4.databases = '$databases'");
	sql('SELECT pg_reload_conf()');
	return;
}

# Bytes that some rounds log for each sync.  What a round touches is logged whole, once, before.
sub of_sync_all
{
	my ($digits) = @_;
	sync_all($digits) foreach 1 .. 3;
	sql('CHECKPOINT');
	sync_all($digits);
	my $from = lsn();
	sync_all($digits) foreach 1 .. 3;
	return map { $_ / $ACCOUNTS / 3 } logged($from, lsn());
}

# The same of the worker, where these balances change every second.
sub of_worker
{
	my ($digits) = @_;

	$provider->change(digit => 'x', moving => $digits);
	sleep 2 * $INTERVAL_S;
	sql('CHECKPOINT');
	sleep 2 * $INTERVAL_S;
	my ($from, $before) = split /\|/, sql('SELECT pg_current_wal_insert_lsn(), count(*) FROM sync_history');
	sleep 5 * $INTERVAL_S;
	my ($to, $after) = split /\|/, sql('SELECT pg_current_wal_insert_lsn(), count(*) FROM sync_history');
	my $synced = $after - $before;
	my ($late) = sql("SELECT count(*) FROM sync_history WHERE status <> 'success'");
	die "$synced syncs, $late failed" if $synced < 4.5 * $ACCOUNTS || $late > 0;
	return map { $_ / $synced } logged($from, $to);
}

my @shares = ([ '0 %', 'x' ], [ '10 %', '0' ], [ '100 %', '.' ]);
Bench::say("$ACCOUNTS accounts; bytes of the log for each sync, and those of page images beside them\n");
Bench::head('', 'balances that change', 'records', 'page images');
Bench::row('wfx_mt4_sync_all()', $_->[0], map { sprintf '%.0f', $_ } of_sync_all($_->[1])) foreach @shares;
sql("UPDATE mt4_integrations SET next_sync_at = now() + random() * interval '$INTERVAL_S s'");
set_worker('postgres');
sleep 10 * $INTERVAL_S;
Bench::row("the worker, every $INTERVAL_S s", $_->[0], map { sprintf '%.0f', $_ } of_worker($_->[1])) foreach @shares;
set_worker('');

my @relations = qw(performance_data mt4_integrations performance_data_trader_id_key mt4_integrations_pkey
  performance_data_profit_percentage_achieved_at_trader_id_idx);
my $size = 'SELECT ' . join ', ', map { "pg_relation_size('$_') / 1024" } @relations;
my @first;
# a round takes a second here and a minute elsewhere, so autovacuum comes as often
sql('VACUUM');
sql("ALTER SYSTEM SET autovacuum_naptime = '1s'");
sql('SELECT pg_reload_conf()');
foreach my $n (1 .. $ROUNDS)
{
	sync_all('0');
	@first = split /\|/, sql($size) if $n == 10;
}
my @last = split /\|/, sql($size);
Bench::say("\nkB after 10 rounds with 10 % of the balances changed, and after $ROUNDS\n");
Bench::head('', 'after 10', "after $ROUNDS");
Bench::row($relations[$_], $first[$_], $last[$_]) foreach 0 .. $#relations;
Bench::say('');
$test->stop;
$provider->stop;
ok(1, 'logged');
done_testing();
