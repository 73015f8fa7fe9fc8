# Plans are kept for a session, while tables grow: no statement of a sync may read
# more for an account because there are more accounts.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $ACCOUNTS = 3000;
my $test = WfxTest->start(conf => "autovacuum = off\nmax_locks_per_transaction = 1000\nwfx_mt4.concurrency = 100\n");

# What was read through the indexes of each table, for each account.
sub reads_per_account
{
	my $read = $test->sql(
		"SELECT string_agg(format('%s %s', relname, reads), ', ' ORDER BY relname) FROM (
		   SELECT relname, sum(idx_tup_read) / $ACCOUNTS AS reads FROM pg_stat_user_indexes
		    GROUP BY relname HAVING sum(idx_tup_read) > 10 * $ACCOUNTS) r");
	$test->sql('SELECT pg_stat_reset()');
	return $read;
}

# The planner knows then that there is nothing in the tables.
$test->sql('VACUUM ANALYZE');
$test->link_many($ACCOUNTS, 'n');
$test->sql('SELECT pg_stat_reset()');
is($test->sql("SELECT wfx_mt4_sync_all() ->> 'synced'"), $ACCOUNTS, 'many accounts are synchronised for the first time');
$test->close_sessions;
is(reads_per_account(), '', 'and no table is read more than ten times for each');

is($test->sql("SELECT wfx_mt4_sync_all() ->> 'synced'"), $ACCOUNTS, 'they are synchronised again');
$test->close_sessions;
is(reads_per_account(), '', 'which reads no more either');

# the same in a session that has begun with one account
$test->reset;
$test->link('one');
$test->sql('VACUUM ANALYZE');
$test->sql('SELECT wfx_mt4_sync_due()') foreach 1 .. 2;
$test->link_many($ACCOUNTS, 'n');
$test->sql('SELECT pg_stat_reset()');
is($test->sql("SELECT wfx_mt4_sync_due() ->> 'synced'"), $ACCOUNTS, 'many more are linked and due');
$test->close_sessions;
is(reads_per_account(), '', 'and are synchronised by plans that suit them');

$test->stop;
done_testing();
