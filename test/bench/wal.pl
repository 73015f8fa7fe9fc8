# What a sync writes to the log, once pages have been logged since the checkpoint, and
# whether tables and indexes grow.
#
#	make bench BENCH=wal
#
# "As the worker" is wfx_mt4_run_due(), which claims and stores with the statements of the
# worker.  Positions are not asked for; snapshot_interval is 5 min, except where it is said.
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
my $provider = Bench::Nginx->start(cpu => 1);
my $test = WfxTest->start(conf => q{
shared_buffers = 512MB
max_wal_size = 8GB
checkpoint_timeout = 1h
log_statement = none
wal_keep_size = 8GB
autovacuum_naptime = 1s
max_locks_per_transaction = 1000
wfx_mt4.poll_interval = '1s'
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

# How everything is synchronised once.
my %ways = (
	'wfx_mt4_sync_all()' => sub { sql('SET client_min_messages = error; SELECT wfx_mt4_sync_all()'); },
	'as the worker' => sub {
		sql("UPDATE mt4_integrations SET poll_interval = '1 s' WHERE poll_interval IS NULL");
		$node->safe_psql('postgres', 'SELECT pg_sleep(1.2)');
		$node->safe_psql('postgres', "SET client_min_messages = error; CALL wfx_mt4_run_due($ACCOUNTS)");
	});

# Synchronises once, after the balances of some have changed.
sub sync_once
{
	my ($way, $digits) = @_;
	my $before = sql('SELECT count(*) FROM sync_history');

	$provider->change(digit => $digits, round => ++$round);
	$ways{$way}->();
	my $synced = sql('SELECT count(*) FROM sync_history') - $before;
	die "$synced of $ACCOUNTS were synchronised" if $synced != $ACCOUNTS;
	return;
}

Bench::say("$ACCOUNTS accounts; bytes of the log for each sync, and those of page images beside them\n");
Bench::head('', 'balances that change', 'records', 'page images');
foreach my $way ('wfx_mt4_sync_all()', 'as the worker')
{
	foreach my $share ([ '0 %', 'x' ], [ '10 %', '0' ], [ '100 %', '.' ])
	{
		my ($name, $digits) = @$share;
		sync_once($way, $digits) foreach 1 .. 3;
		sql('CHECKPOINT');
		# what a round touches is logged whole, once
		sync_once($way, $digits);
		my $from = lsn();
		sync_once($way, $digits) foreach 1 .. 3;
		my ($records, $images) = logged($from, lsn());
		Bench::row($way, $name, map { sprintf '%.0f', $_ / $ACCOUNTS / 3 } $records, $images);
	}
}

my @relations = qw(performance_data mt4_integrations performance_data_trader_id_key mt4_integrations_pkey
  performance_data_profit_percentage_achieved_at_trader_id_idx);
my $size = 'SELECT ' . join ', ', map { "pg_relation_size('$_') / 1024" } @relations;
my @first;
foreach my $n (1 .. $ROUNDS)
{
	sync_once('wfx_mt4_sync_all()', '0');
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
