# An answer that was requested earlier never overwrites what was stored
# meanwhile, and a clock that was set back does not freeze a trader.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my @sessions = map { $test->session } (1 .. 3);

foreach my $sync ('SELECT wfx_mt4_sync_all()', 'CALL wfx_mt4_run_due()')
{
	subtest "a newer integration is faster than $sync" => sub {
		$test->reset;
		$test->provider->control('PUT', 'hold/1~balance-100');
		my $older =
		  $test->link('1~balance-100', created_at => '2026-01-01');
		WfxTest::send_query($sessions[0], $sync);
		$test->wait_in_flight(1);
		my $newer =
		  $test->link('2~balance-200', trader => $test->trader($older));
		ok($test->sync($newer)->{success}, 'the newer one');
		my $stored = $test->performance($newer);
		$test->provider->control('DELETE', 'hold/1~balance-100');
		WfxTest::finish_query($sessions[0]);

		is_deeply($test->performance($newer), $stored, 'its numbers stay');
		is($stored->{current_balance}, '200', 'balance');
		is($test->history($older)->{records_updated}, 0, 'history');
		is( $test->sql(
				"SELECT count(*) FROM account_snapshots WHERE integration_id = '$older'"
			),
			0,
			'no snapshot');
		is($test->integration($older)->{sync_status},
			'success', 'the older one was fetched, too');
	};
}

subtest 'the clock was set back' => sub {
	$test->reset;
	my $id = $test->link('1~balance-100');
	$test->sync($id);
	foreach my $balance (200, 300)
	{
		$test->sql(
			"UPDATE performance_data SET observed_at = now() + interval '1 day'"
		);
		$test->sql(
			"UPDATE mt4_integrations SET mt4_account_id = '1~balance-$balance'"
		);
		ok($test->sync($id)->{success}, 'success');
		is($test->performance($id)->{current_balance}, $balance, 'is stored');
	}
};

subtest 'balances are stored in the order of their requests' => sub {
	$test->reset;
	my $id = $test->link('counted~delay-5');
	$test->provider->control('PUT', 'counter/counted~delay-5');
	$test->sql(
		"CREATE TABLE backwards AS SELECT 1 AS a, 1 AS b WHERE false;
		CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN
			IF NEW.current_balance < OLD.current_balance THEN
				INSERT INTO public.backwards VALUES (OLD.current_balance, NEW.current_balance);
			END IF;
			RETURN NULL;
		END \$\$;
		CREATE TRIGGER watch AFTER UPDATE ON performance_data
			FOR EACH ROW EXECUTE FUNCTION watch()");
	my $syncs = "SELECT wfx_mt4_sync('$id') ->> 'success'; " x 15;
	WfxTest::send_query($_, $syncs) foreach @sessions;
	my $succeeded = join '', map { (WfxTest::finish_query($_))[0] } @sessions;

	is(scalar(() = $succeeded =~ /true/g), 45, 'all succeed');
	is($test->sql('SELECT count(*) FROM backwards'), 0, 'none went back');
	is($test->performance($id)->{current_balance}, 45, 'the last one counts');
};

$_->quit foreach @sessions;
$test->stop;
done_testing();
