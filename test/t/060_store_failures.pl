# What the database refuses for one account is that account's error; the others
# are stored.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $unlucky;

# Links ten accounts, of which one is going to fail.
sub prepare
{
	$test->reset;
	$test->link_many(9, 'n');
	$unlucky = $test->link('unlucky~balance-12345');
	return;
}

# Checks that all but the unlucky one were stored, and that it has this error.
sub only_one_fails
{
	my ($result, $error) = @_;

	is($result->{message},
		'MT4 Sync complete: 9 success, 1 failed', 'totals');
	like($result->{errors}[0] // '',
		qr/unlucky.*: Failed to store account data: $error/, 'error');
	is( $test->sql(
			"SELECT count(*), count(DISTINCT h.status), count(last_sync)
			FROM mt4_integrations i JOIN sync_history h ON h.integration_id = i.id
			WHERE i.id <> '$unlucky' AND h.status = 'success'"),
		'9|1|9',
		'nine are recorded');
	is( $test->sql(
			'SELECT count(*) FROM performance_data WHERE observed_at IS NOT NULL'
		),
		9,
		'nine are stored');

	my $history = $test->history($unlucky);
	is( "@{$history}{qw(status error_code records_updated)}",
		'error internal 0',
		'its history');
	like(
		$history->{error_message},
		qr/^Failed to store account data: $error/,
		'its error');
	return;
}

# Checks that the unlucky one's row tells the same.
sub row_tells
{
	my ($error) = @_;
	my $integration = $test->integration($unlucky);

	is( "@{$integration}{qw(sync_status error_code consecutive_failures)}",
		'error internal 1',
		'its row');
	like(
		$integration->{last_error},
		qr/^Failed to store account data: $error/,
		'its last error');
	is($integration->{last_sync}, undef, 'never synced');
	return;
}

# Creates a trigger with this body on a table.
sub create_trigger
{
	my ($table, $events, $body) = @_;
	$test->sql(
		"CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
		  AS \$\$ BEGIN $body RETURN NEW; END \$\$;
		CREATE TRIGGER refuse BEFORE $events ON $table
		  FOR EACH ROW EXECUTE FUNCTION refuse()");
	return;
}

subtest 'a trigger raises' => sub {
	prepare();
	create_trigger(
		'performance_data',
		'INSERT OR UPDATE',
		"IF NEW.current_balance = 12345 THEN RAISE 'not this one'; END IF;");
	only_one_fails($test->sync_all, 'P0001 not this one');
	row_tells('P0001 not this one');
	$test->sql('DROP TRIGGER refuse ON performance_data');
	is($test->sync_all->{failed}, 0, 'later it is stored');
	is($test->integration($unlucky)->{consecutive_failures}, 0, 'and well');
};

subtest 'a trigger suppresses the row' => sub {
	prepare();
	create_trigger(
		'performance_data',
		'INSERT OR UPDATE',
		'IF NEW.current_balance = 12345 THEN RETURN NULL; END IF;');
	only_one_fails($test->sync_all, '\w{5} .*did not take the row');
	row_tells('\w{5} ');
	$test->sql('DROP TRIGGER refuse ON performance_data');
};

subtest 'a trigger on the integrations raises' => sub {
	prepare();
	create_trigger('mt4_integrations', 'UPDATE',
		"IF NEW.mt4_account_id ~ 'unlucky' THEN RAISE 'not this one'; END IF;"
	);
	only_one_fails($test->sync_all, 'P0001 not this one');
	$test->sql('DROP TRIGGER refuse ON mt4_integrations');
};

subtest 'a constraint' => sub {
	prepare();
	$test->sql(
		'ALTER TABLE performance_data
		ADD CONSTRAINT modest CHECK (current_balance < 5000)');
	only_one_fails($test->sync_all, '23514 .*modest');
	row_tells('23514 ');
	$test->sql('ALTER TABLE performance_data DROP CONSTRAINT modest');
};

subtest 'a number that an adopted column cannot hold' => sub {
	prepare();
	$test->sql(
		'ALTER TABLE performance_data ALTER current_balance TYPE numeric(6,2)'
	);
	only_one_fails($test->sync_all, '22003 .*overflow');
	row_tells('22003 ');
	$test->sql(
		'ALTER TABLE performance_data ALTER current_balance TYPE numeric');
};

subtest 'a serialization failure' => sub {
	prepare();
	$test->sql("INSERT INTO performance_data (trader_id) VALUES ('"
		  . $test->trader($unlucky)
		  . "')");
	my $session = $test->session;
	$session->query_safe(
		'SET client_min_messages = warning;
		BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM traders');
	$test->sql('UPDATE performance_data SET starting_balance = 1');
	my $result = JSON::PP->new->decode(
		$session->query_safe('SELECT wfx_mt4_sync_all()'));
	$session->query_safe('COMMIT');
	$session->quit;
	only_one_fails($result, '40001 ');
	row_tells('40001 ');
};

subtest 'the history cannot be written' => sub {
	prepare();
	create_trigger('sync_history', 'INSERT',
		"IF NEW.integration_id = '$unlucky' THEN RAISE 'no history'; END IF;"
	);
	my $result = $test->sync_all;
	is($result->{message},
		'MT4 Sync complete: 9 success, 1 failed', 'totals');
	is_deeply($test->performance($unlucky), {}, 'nothing is stored');
	$test->sql('DROP TRIGGER refuse ON sync_history');
};

subtest 'a run' => sub {
	prepare();
	create_trigger(
		'performance_data',
		'INSERT OR UPDATE',
		"IF NEW.current_balance = 12345 THEN RAISE 'not this one'; END IF;");
	$test->sql('CALL wfx_mt4_run_due()');
	row_tells('P0001 not this one');
	is( $test->sql(
			"SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'"
		),
		9,
		'the others');
	$test->sql('DROP TRIGGER refuse ON performance_data');
};

$test->stop;
done_testing();
