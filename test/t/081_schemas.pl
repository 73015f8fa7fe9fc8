# The extension and the tables may live in any schemas.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start(extension => 0);
my $node = $test->node;
my $endpoint = $test->provider->endpoint;
my $database = 0;

foreach (
	[ 'public', 'public' ],
	[ 'My Ext', 'public' ],
	[ 'public', 'My App' ],
	[ 'My Ext', 'My App' ])
{
	my ($extension, $application) = @$_;

	subtest "extension in $extension, tables in $application" => sub {
		$test->{database} = 'db' . ++$database;
		$node->safe_psql('postgres', "CREATE DATABASE $test->{database}");
		$test->sql("CREATE SCHEMA IF NOT EXISTS \"$_\"")
		  foreach ($extension, $application);
		$test->sql(
			"ALTER DATABASE $test->{database}
			SET wfx_mt4.schema = '$application'");
		$test->close_sessions;    # the setting is for new ones
		$test->sql("CREATE EXTENSION wfx_mt4 SCHEMA \"$extension\"");

		my $prefix = "\"$extension\".wfx_mt4_";
		$test->sql("SELECT ${prefix}create_tables()");
		my $id = $test->sql(
			"SET search_path = \"$application\";
			INSERT INTO traders (full_name, is_approved) VALUES ('Alice', true);
			SELECT ${prefix}link(credential_id, '1~balance-1100', 'token', '$endpoint', 'mt5')
			  FROM ${prefix}upload_credential('user', 'password', '1')");
		$test->sql(
			"SET search_path = \"$application\"; CALL ${prefix}run_due()");
		is( $test->sql("SELECT ${prefix}sync('$id') ->> 'message'"),
			'MT5 Sync successful',
			'a sync');
		is( $test->sql("SELECT ${prefix}sync_due() ->> 'message'"),
			'No MT4 integrations due',
			'nothing is due');
		is( $test->sql(
				"SELECT trader_name, current_balance
				FROM \"$application\".get_leaderboard()"),
			'Alice|1100',
			'get_leaderboard');
		is( $test->sql(
				"SELECT trader_name, rank FROM ${prefix}leaderboard()"),
			'Alice|1',
			'wfx_mt4_leaderboard');
		$test->sql(
			"CREATE SCHEMA \"It's an API\";
			SELECT ${prefix}expose('It''s an API')");
		is( $test->sql(
				"SELECT mt4_account_id FROM \"It's an API\".wfx_mt4_status()"),
			'1~balance-1100',
			'what is exposed in another');
		is( $test->sql(
				"CREATE PUBLICATION p; SELECT ${prefix}enable_realtime('p');
				SELECT schemaname FROM pg_publication_tables") =~ s/^\n//r,
			$application,
			'the board is published');
		is($test->sql("SELECT sync_status FROM ${prefix}status()"),
			'success', 'wfx_mt4_status');
		is($test->sql("SELECT count(*) FROM ${prefix}recent_syncs('$id')"),
			2, 'wfx_mt4_recent_syncs');
		is($test->sql("SELECT ${prefix}unlink('$id')"), 't',
			'wfx_mt4_unlink');
	};
}

subtest 'no tables' => sub {
	$test->{database} = 'postgres';
	$test->sql('CREATE EXTENSION wfx_mt4');
	my $error = $test->error('SELECT wfx_mt4_sync_all()');
	like($error, qr/^ERROR:  42P01: .*does not exist/, 'is an error');
	like($error, qr/^HINT: .*wfx_mt4_create_tables/m, 'with a hint');
};

$test->stop;
done_testing();
