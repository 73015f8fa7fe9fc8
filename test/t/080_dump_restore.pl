# A plain dump restores everything into an empty database, and the tables
# outlive the extension.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $node = $test->node;
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
my @tables = qw(traders trading_credentials credential_assignments
  performance_data mt4_integrations sync_history account_snapshots);

# Returns all that is stored in a database.
sub contents
{
	my ($database) = @_;
	return join "\n", map {
		$node->safe_psql($database,
			"SELECT '$_', count(*), md5(string_agg(r::text, ' ' ORDER BY r::text)) FROM $_ r"
		)
	} (@tables, '(SELECT * FROM wfx_mt4_providers WHERE NOT builtin)');
}

my $good = $test->link('1~balance-1100');
my $bad = $test->link('2~status-401');
$test->sql(
	"INSERT INTO wfx_mt4_providers (name, account_url, token_header)
	VALUES ('mine', '{endpoint}/accounts/{account_id}', 'X-API-Key')");
my $mine = $test->link('3', mt4_provider => 'mine');
$test->sync_all;

subtest 'dump and restore' => sub {
	command_ok(
		[   'pg_dump', '--file', $dump, '--dbname', $node->connstr('postgres')
		],
		'pg_dump');
	$node->safe_psql('postgres', 'CREATE DATABASE restored');
	command_ok(
		[   'psql', '--no-psqlrc',
			'--quiet', '--output',
			$dump . '.out', '--set',
			'ON_ERROR_STOP=1', '--file',
			$dump, '--dbname',
			$node->connstr('restored') ],
		'psql');
	is(contents('restored'), contents('postgres'), 'all rows are there');
	unlike(
		$node->safe_psql('restored', 'SELECT * FROM wfx_mt4_create_tables()'),
		qr/created|extended/,
		'and everything else');

	local $test->{database} = 'restored';
	is($test->sync_all->{synced}, 2, 'accounts are synchronised there');
	is( $test->sql(
			"SELECT sync_status FROM mt4_integrations WHERE id = '$mine'"),
		'success',
		'with the rows of a user');
	is($test->sql('SELECT current_balance FROM get_leaderboard() LIMIT 1'),
		1100, 'and ranked');
};

subtest 'DROP EXTENSION and CREATE EXTENSION' => sub {

	# a user's provider belongs to the extension
	$test->sql(
		"DELETE FROM mt4_integrations WHERE id = '$mine';
		DELETE FROM wfx_mt4_providers WHERE NOT builtin");
	my $before = contents('postgres');

	$test->sql('DROP EXTENSION wfx_mt4');
	like(
		$test->sql(
			'SELECT trader_name, current_balance FROM get_leaderboard()'),
		qr/^Trader of 1~balance-1100\|1100$/m,
		'the leaderboard goes on');
	is( $test->sql(
			"BEGIN;
			UPDATE mt4_integrations SET mt4_server_endpoint = 'https://other.test' RETURNING 1;
			ROLLBACK"),
		"1\n1",
		'the tables can be written');

	$test->create_extension;
	is(contents('postgres'), $before, 'every row is as it was');
	is($test->sync_all->{synced}, 1, 'accounts are synchronised again');
	$test->sql(
		"UPDATE mt4_integrations SET mt4_server_endpoint = 'http://127.0.0.2' WHERE id = '$good'"
	);
	is($test->integration($good)->{mt4_api_token},
		'', 'and their triggers work');
};

$test->stop;
done_testing();
