# Objects of others in public or pg_temp, and settings of the session, change
# nothing of what a sync does.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $id = $test->link('1~balance-1100');
my @tables = qw(traders trading_credentials credential_assignments
  performance_data mt4_integrations sync_history account_snapshots
  wfx_mt4_providers pg_extension pg_class pg_namespace pg_attribute);

# Whatever calls one of these has looked for it in the wrong place.
my $trap = "RAISE 'trapped'; END";
my $functions = join ' ', map {
	"CREATE FUNCTION public.$_ LANGUAGE plpgsql AS \$\$ BEGIN $trap \$\$;"
} ( 'gen_random_uuid() RETURNS uuid',
	'now() RETURNS timestamptz',
	'clock_timestamp() RETURNS timestamptz',
	'format_type(oid, integer) RETURNS text',
	'max(timestamptz) RETURNS timestamptz',
	'lower(text) RETURNS text',
	'to_json(text) RETURNS json',
	'uuid_equal(uuid, uuid) RETURNS boolean',
	'text_equal(text, text) RETURNS boolean',
	'minus(numeric, numeric) RETURNS numeric');
$test->sql(
	"$functions
	CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.uuid_equal);
	CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.text_equal);
	CREATE OPERATOR public.- (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = public.minus)"
);

my $temporary = join ' ',
  map { "CREATE TEMPORARY TABLE $_ (id uuid, nspname name, relname name);" }
  @tables;
my %sessions = (
	'public first' => 'SET search_path = public, pg_catalog;',
	'temporary objects' =>
	  "$temporary SET search_path = pg_temp, public, pg_catalog;",
	'an empty search_path' => "SET search_path = '';",
	'other settings' =>
	  "SET quote_all_identifiers = on; SET DateStyle = 'German, DMY';
	  SET IntervalStyle = sql_standard; SET TimeZone = 'Asia/Kathmandu';
	  SET transform_null_equals = on; SET row_security = on;
	  SET standard_conforming_strings = off; SET escape_string_warning = off;
	  SET default_transaction_isolation = serializable;
	  SET plan_cache_mode = force_generic_plan; SET jit = off;");
my $extension = 'public.wfx_mt4_';

foreach my $name (sort keys %sessions)
{
	subtest $name => sub {
		$test->sql("TRUNCATE performance_data, sync_history");
		$test->sql("UPDATE mt4_integrations SET next_sync_at = '2000-01-01'");
		my $output = $test->sql(
			"$sessions{$name}
			SELECT ${extension}sync('$id');
			SELECT ${extension}sync_all();
			SELECT ${extension}request_sync();
			SELECT ${extension}sync_due();
			SELECT ${extension}request_sync();
			CALL ${extension}run_due();
			SELECT ${extension}sync('$id') IS NOT NULL");
		my @synced = $output =~ /"synced": 1/g;

		is(scalar @synced, 3, 'all syncs') or diag($output);
		is( $test->sql(
				'SELECT count(*) FROM sync_history WHERE status LIKE $$success$$'
			),
			5,
			'all are recorded');
		is( $test->sql(
				'SELECT current_balance, trim_scale(profit_percentage) FROM performance_data'
			),
			'1100|10',
			'what is stored');
		$test->sql("$sessions{$name} SELECT count(*) FROM ${extension}$_")
		  foreach ('status()', 'leaderboard()', 'recent_syncs()');
	};
}

$test->stop;
done_testing();
