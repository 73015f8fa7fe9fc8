# Tables that were changed after they had been adopted are an error, not a crash
# and not a wrong number.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $id = $test->link('1');
my $started = $test->sql('SELECT pg_postmaster_start_time()');

# Does something to the tables, looks at what comes of a statement, and undoes it.
sub with_change
{
	my ($name, $change, $statement, $error) = @_;
	like($test->error("BEGIN; $change; $statement"), $error, $name);
	return;
}

my $without_triggers = 'DROP TRIGGER wfx_mt4_clear_token ON mt4_integrations;
	DROP TRIGGER wfx_mt4_wake ON mt4_integrations;
	DROP TRIGGER wfx_mt4_reschedule ON mt4_integrations';

with_change(
	'an id that is a number',
	'ALTER TABLE mt4_integrations DROP id; ALTER TABLE mt4_integrations ADD id bigint DEFAULT 4096',
	'SELECT wfx_mt4_sync_all()', qr/42\w\d\d: /);
with_change(
	'a time that is a text, for a sync',
	"$without_triggers; ALTER TABLE mt4_integrations ALTER next_sync_at DROP DEFAULT,
	   ALTER next_sync_at TYPE text",
	'SELECT wfx_mt4_sync_all()', qr/42\w\d\d: /);
with_change(
	'a time that is a text, for the status',
	"ALTER TABLE mt4_integrations ALTER last_attempt TYPE text",
	'SELECT * FROM wfx_mt4_status()', qr/42\w\d\d: /);
like(
	$test->sql(
		"BEGIN; ALTER TABLE performance_data DROP peak_equity; SELECT wfx_mt4_sync_all()"),
	qr/Failed to store account data: 42703 .*peak_equity/,
	'a column that is gone');
with_change(
	'a table that is gone',
	'DROP TABLE account_snapshots',
	'SELECT wfx_mt4_sync_all()', qr/42P01: .*account_snapshots/);

# the triggers do not trust a name either
is( $test->sql(
		"BEGIN; DROP TRIGGER wfx_mt4_reschedule ON mt4_integrations;
		 ALTER TABLE mt4_integrations ALTER next_sync_at DROP DEFAULT,
		   ALTER next_sync_at TYPE text;
		 UPDATE mt4_integrations SET is_active = true, mt4_account_id = '2';
		 ALTER TABLE mt4_integrations RENAME mt4_api_token TO old_token;
		 ALTER TABLE mt4_integrations ADD mt4_api_token bigint DEFAULT 4242;
		 UPDATE mt4_integrations SET mt4_server_endpoint = 'https://elsewhere.example'
		   RETURNING mt4_account_id"),
	'2', 'the triggers leave columns of other types alone');

# values of ages
is( $test->sql(
		"BEGIN; UPDATE mt4_integrations SET last_sync = 'infinity', poll_interval = '200000 years';
		 SELECT freshness FROM wfx_mt4_status()"),
	'fresh', 'infinite times and endless intervals have a freshness');
is( $test->sql(
		"BEGIN; UPDATE mt4_integrations SET poll_interval = '200000 years';
		 SELECT wfx_mt4_sync('$id') ->> 'success';
		 SELECT next_sync_at > now() + interval '300 days' FROM mt4_integrations"),
	"true\nt", 'an endless interval is a long one');

# a trigger that swallows what is inserted
$test->sql(
	'CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$');
foreach my $table (qw(trading_credentials credential_assignments mt4_integrations))
{
	my $call = $table eq 'mt4_integrations'
	  ? "SELECT wfx_mt4_link((SELECT id FROM trading_credentials LIMIT 1), '9', 't', 'https://a.example')"
	  : "INSERT INTO traders (full_name, is_approved) VALUES ('x', true);
		 SELECT wfx_mt4_upload_credential('u', 'p', '9')";

	with_change("swallowed by $table",
		"CREATE TRIGGER swallow BEFORE INSERT ON $table FOR EACH ROW EXECUTE FUNCTION swallow()",
		$call, qr/09000: .*did not take the row/);
}

ok($test->sync($id)->{success}, 'everything is as before');
is($test->sql('SELECT pg_postmaster_start_time()'), $started, 'nothing crashed');
unlike(slurp_file($test->node->logfile), qr/terminated by signal/, 'nor did a session');

$test->stop;
done_testing();
