# Where the tables belong to a superuser, code of others is not run with his
# rights: nothing is written.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $id = $test->link('1');

$test->sql(
	"CREATE ROLE mallory; GRANT CREATE ON SCHEMA public TO mallory;
	SET ROLE mallory;
	CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS \$\$
	  BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN NEW; END \$\$;
	CREATE FUNCTION count_it(numeric) RETURNS boolean LANGUAGE plpgsql AS \$\$
	  BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN true; END \$\$;
	CREATE FUNCTION default_it() RETURNS text LANGUAGE plpgsql AS \$\$
	  BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN ''; END \$\$;
	CREATE FUNCTION compare_it(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS \$\$
	  BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN true; END \$\$;
	CREATE OPERATOR === (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = compare_it);
	CREATE DOMAIN checked AS numeric CHECK (count_it(VALUE))");

# How that code comes to be run, and how to undo it.
my %ways = (
	'a trigger' => [
		'CREATE TRIGGER steal BEFORE INSERT OR UPDATE ON performance_data
		   FOR EACH ROW EXECUTE FUNCTION steal()',
		'DROP TRIGGER steal ON performance_data' ],
	'a trigger of the history' => [
		'CREATE TRIGGER steal AFTER INSERT ON sync_history
		   FOR EACH ROW EXECUTE FUNCTION steal()',
		'DROP TRIGGER steal ON sync_history' ],
	'a check' => [
		'ALTER TABLE performance_data ADD CONSTRAINT c CHECK (count_it(equity))',
		'ALTER TABLE performance_data DROP CONSTRAINT c' ],
	'a default' => [
		'ALTER TABLE sync_history ADD note text;
		 ALTER TABLE sync_history ALTER note SET DEFAULT default_it()',
		'ALTER TABLE sync_history DROP note' ],
	'a rule' => [
		'CREATE RULE r AS ON INSERT TO sync_history DO ALSO SELECT default_it()',
		'DROP RULE r ON sync_history' ],
	'a condition of a trigger' => [
		"CREATE TRIGGER t BEFORE UPDATE ON performance_data FOR EACH ROW
		   WHEN (count_it(NEW.equity)) EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		'DROP TRIGGER t ON performance_data' ],
	'an operator in a condition' => [
		"CREATE TRIGGER t BEFORE UPDATE ON mt4_integrations FOR EACH ROW
		   WHEN (NEW.id === NEW.id) EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		'DROP TRIGGER t ON mt4_integrations' ],
	'an operator in a check' => [
		'ALTER TABLE performance_data ADD CONSTRAINT c CHECK (trader_id === trader_id)',
		'ALTER TABLE performance_data DROP CONSTRAINT c' ],
	'a domain in a condition' => [
		"CREATE TRIGGER t BEFORE UPDATE ON performance_data FOR EACH ROW
		   WHEN (NEW.equity::checked > 0) EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		'DROP TRIGGER t ON performance_data' ],
	'a domain as a type' => [
		'ALTER TABLE sync_history ADD note checked',
		'ALTER TABLE sync_history DROP note' ]);

foreach my $way (sort keys %ways)
{
	subtest $way => sub {
		$test->sql($ways{$way}[0]);
		my $result = $test->sync($id);

		is($result->{error_code}, 'internal', 'error code');
		like($result->{error},
			qr/^Failed to store account data: 42501 .*"mallory"/, 'error');
		is_deeply($test->performance($id), {}, 'nothing is stored');
		is($test->integration($id)->{last_attempt}, undef, 'nor recorded');
		is($test->sql('SELECT count(*) FROM sync_history'), 0, 'anywhere');
		$test->node->psql('postgres', 'CALL wfx_mt4_run_due()');
		is($test->integration($id)->{last_attempt}, undef, 'nor by a run');
		is( $test->sql(
				"SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"),
			'f',
			'mallory gains nothing');
		$test->sql($ways{$way}[1]);
	};
}
ok($test->sync($id)->{success}, 'without all that it is stored');

$test->stop;
done_testing();
