# wfx_mt4_refresh() queues what a row concerns and disturbs nobody; listeners hear
# whose numbers changed; the equity curve.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WfxTest;

my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1h'
wfx_mt4.snapshot_interval = '1s'
max_prepared_transactions = 5
});

$test->wait_worker('running');
my $id = $test->link('4711');
my $trader = $test->trader($id);

sub syncs { return $test->sql("SELECT count(*) FROM sync_history WHERE integration_id = '$id'"); }
sub wait_syncs
{
	my ($count) = @_;
	WfxTest::wait_until(sub { syncs() == $count }, "$count syncs");
	return;
}

wait_syncs(1);
foreach my $table (qw(traders trading_credentials credential_assignments mt4_integrations))
{
	$test->sql("CREATE TRIGGER refresh AFTER INSERT OR UPDATE ON $table
		FOR EACH ROW EXECUTE FUNCTION wfx_mt4_refresh()");
}
$test->sql("UPDATE traders SET full_name = 'Another Name' WHERE id = '$trader'");
wait_syncs(2);
pass('a change of a trader has his account synchronised');
$test->sql("UPDATE trading_credentials SET notes = 'x'");
wait_syncs(3);
pass('a change of a credential too');
$test->sql('UPDATE credential_assignments SET assigned_at = now()');
wait_syncs(4);
pass('a change of an assignment too');
usleep(500_000);
is(syncs(), 4, 'what the extension writes queues nothing');
$test->sql(qq{BEGIN; UPDATE traders SET full_name = 'x' WHERE id = '$trader'; ROLLBACK});
usleep(300_000);
is(syncs(), 4, 'a change that is rolled back queues nothing');

$test->sql(qq{BEGIN; UPDATE traders SET full_name = 'y' WHERE id = '$trader'; PREPARE TRANSACTION 'later'});
usleep(300_000);
is(syncs(), 4, 'a prepared change waits');
$test->sql(q{COMMIT PREPARED 'later'});
wait_syncs(5);
pass('until it is committed');

# Many rows in one statement, with a transition table.
$test->sql('DROP TRIGGER refresh ON traders');
$test->sql('CREATE TRIGGER refresh AFTER UPDATE ON traders REFERENCING NEW TABLE AS n
	FOR EACH STATEMENT EXECUTE FUNCTION wfx_mt4_refresh()');
$test->link_many(1000, 'n');
WfxTest::wait_until(sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'}) == 1001 },
	'all accounts');
usleep(300_000);
my $before = $test->sql('SELECT count(*) FROM sync_history');
$test->sql(q{UPDATE traders SET full_name = full_name || '.'});
WfxTest::wait_until(sub { $test->sql('SELECT count(*) FROM sync_history') == $before + 1001 }, 'a sync of each');
usleep(500_000);
is($test->sql('SELECT count(*) FROM sync_history'), $before + 1001, 'each account is queued once');

# Trouble is a warning.
my $session = $test->session;
$session->query_safe('BEGIN');
$session->query_safe('LOCK TABLE mt4_integrations IN SHARE MODE');
my ($status, undef, $stderr) = $test->node->psql('postgres',
	"UPDATE traders SET full_name = 'z' WHERE id = '$trader'", timeout => 60);
is($status, 0, 'a statement succeeds, without waiting, where its refresh cannot be queued');
like($stderr, qr/WARNING:  wfx_mt4_refresh\(\) could not queue a sync/, 'and says so');
$session->query_safe('COMMIT');
$session->quit;

# A row that somebody has locked is left to the worker.
$before = syncs();
my $other = $test->session;
$other->query_safe("BEGIN; UPDATE mt4_integrations SET last_error = NULL WHERE id = '$id'");
($status, undef, $stderr) = $test->node->psql('postgres',
	"UPDATE traders SET full_name = 'q' WHERE id = '$trader'");
is("$status $stderr", '0 ', 'a locked integration is no trouble');
usleep(600_000);
is(syncs(), $before, 'it waits as long as it is locked');
$other->query_safe('COMMIT');
$other->quit;
wait_syncs($before + 1);
pass('and is synchronised afterwards');

# So is one that cannot be written afterwards, and disturbs no other.
my $bad = $test->link('4712');
WfxTest::wait_until(sub { ($test->integration($bad)->{sync_status} // '') eq 'success' }, 'its first sync');
$test->sql(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	  IF NEW.next_sync_at = '-infinity' THEN RAISE EXCEPTION 'never'; END IF;
	  RETURN NEW;
	END $$});
$test->sql("CREATE TRIGGER refuse BEFORE UPDATE ON mt4_integrations FOR EACH ROW
	WHEN (OLD.id = '$bad') EXECUTE FUNCTION refuse()");
$before = syncs();
$other = $test->session;
$other->query_safe("BEGIN; SELECT FROM mt4_integrations WHERE id IN ('$id', '$bad') FOR UPDATE");
$test->sql("UPDATE traders SET full_name = 'r' WHERE id IN ('$trader', '" . $test->trader($bad) . "')");
$other->query_safe('COMMIT');
$other->quit;
wait_syncs($before + 1);
$test->node->wait_for_log(qr/LOG:  could not queue a sync that was requested: never/);
is($test->worker->{state}, 'running', 'a row whose trigger raises disturbs no other');
$test->sql('DROP TRIGGER refuse ON mt4_integrations');

# Notifications name traders whose numbers changed.
$test->provider->control('PUT', 'answer/4711', { body => '{"balance": 1234.5, "equity": 1200}' });
my $listen = "LISTEN wfx_mt4; SELECT wfx_mt4_sync('$id') ->> 'success'";
my $heard = qr/notification "wfx_mt4" with payload "\{"traders": \["$trader"\]\}"/;
like($test->node->safe_psql('postgres', $listen), $heard, 'listeners hear whose numbers changed');
foreach my $equity ('50', '-50', '0', 'null')
{
	$test->provider->control('PUT', 'answer/4711', { body => qq({"balance": 1234.5, "equity": $equity}) });
	like($test->node->safe_psql('postgres', $listen), $heard, "also where the equity alone is $equity by then");
}
$test->provider->control('PUT', 'answer/4711', { body => '{"balance": 1234.5, "equity": 1200}' });
$test->node->safe_psql('postgres', $listen);
unlike($test->node->safe_psql('postgres', $listen), qr/notification/, 'and nothing where none did');
my $curve = $test->sql("SELECT string_agg(balance || ' ' || equity, ',' ORDER BY observed_at)
	FROM wfx_mt4_equity_curve('$trader')");
like($curve, qr/1234\.5 1200/, 'the curve shows what was observed');
$test->sql("INSERT INTO account_snapshots (integration_id, trader_id, observed_at, balance, equity)
	SELECT '$id', '$trader', now() - n * interval '1 minute', n, n FROM generate_series(1, 1000) AS n");
is($test->sql("SELECT count(*) FROM wfx_mt4_equity_curve('$trader', points => 100)"), 100,
	'a curve is thinned');
is($test->sql("SELECT balance FROM wfx_mt4_equity_curve('$trader', points => 10)
	ORDER BY observed_at DESC LIMIT 1"), '1234.5', 'and keeps its end');
$test->stop;
done_testing();
