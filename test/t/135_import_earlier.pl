# wfx_mt4_import_earlier(): the MT5 accounts of an earlier application are brought over
# once, are asked for where it asked for them, and nothing is lost, invented or shown.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use WfxTest;

my $test = WfxTest->start(extension => 0);

# Its tables, as far as they matter here, with rows of all kinds.
$test->sql(q{CREATE TABLE traders (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), full_name text NOT NULL, is_approved boolean DEFAULT true);
	CREATE TABLE trading_credentials (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account_username text NOT NULL,
		account_password text NOT NULL, account_number text NOT NULL UNIQUE);
	CREATE TABLE mt5_integrations (
		id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
		credential_id uuid NOT NULL,
		mt5_account_id text NOT NULL, mt5_api_token text NOT NULL, mt5_server_endpoint text NOT NULL,
		sync_status text DEFAULT 'pending', last_sync timestamptz, last_error text, is_active boolean DEFAULT true,
		created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
	CREATE EXTENSION wfx_mt4; SELECT wfx_mt4_create_tables()});
my $endpoint = $test->provider->endpoint;
my $elsewhere = 'MetaApi does not answer there: set the endpoint to the client API of the account\'s region,'
  . ' https://mt-client-api-v1.REGION.agiliumtrade.ai';
my @rows = (
	# account, token, endpoint, is_active, sync_status; what becomes of it
	[ '1', 'token-1', "$endpoint/accounts", 't', 'success', 'would be imported', "account 1 at $endpoint" ],
	[ '2', 'token-1', "$endpoint/accounts/", 'f', 'error', 'would be imported', "account 2 at $endpoint, inactive" ],
	[ '3', 'token-1', "$endpoint/accounts/x/..", 't', 'pending', 'would be imported', "account 3 at $endpoint/accounts/x/.., provider earlier_mt5" ],
	[ '4', 'token-1', 'https://mt5api.metaapi.cloud', 't', 'error', 'would be imported', "account 4 at https://mt5api.metaapi.cloud/v1; $elsewhere" ],
	[ '5', 'token-1', 'https://mt-client-api-v1.london.agiliumtrade.ai', 't', 'error', 'would be imported',
		'account 5 at https://mt-client-api-v1.london.agiliumtrade.ai' ],
	[ '6', '', $endpoint, 't', 'error', 'left', 'its account id, token or endpoint is empty' ],
	[ '7/8', 'token-1', $endpoint, 't', 'error', 'left', 'its account id has characters that no request may contain' ],
	[ '8', 'token 1', $endpoint, 't', 'error', 'left', 'its token is no printable ASCII without spaces' ],
	[ '9', 'token-1', "$endpoint/?key=hidden-token", 't', 'error', 'left', 'its endpoint is no valid address, or has a user name or query' ],
	[ '10', 'token-1', 'https://u:hidden-token@x', 't', 'error', 'left', 'its endpoint is no valid address, or has a user name or query' ],
	[ '11', 'token-1', 'https://app.metaapi.cloud/configure-trading-account-credentials/1/2', 't', 'error', 'left',
		'its endpoint is MetaApi\'s page for users, not an API' ],
	[ '12', 'token-1', "$endpoint/direct", 't', 'success', 'would be imported', "account 12 at $endpoint/direct, provider earlier_mt5" ],
	[ '13', 'token-1', $endpoint, 't', 'error', 'left', 'its credential does not exist' ],
	# MetaApi, in other spellings
	( map { [ @$_[ 0, 1, 2 ], 't', 'error', 'would be imported', "account $_->[0] at $_->[3]; $elsewhere" ] }
		[ '16', 'token-1', 'https://api.metaapi.cloud/v1/accounts', 'https://api.metaapi.cloud/v1' ],
		[ '17', 'token-1', 'https://MT5API.MetaApi.cloud', 'https://MT5API.MetaApi.cloud/v1' ] ),
	( map { [ @$_[ 0, 1, 2 ], 't', 'error', 'would be imported', "account $_->[0] at $_->[3]" ] }
		[ '18', 'token-1', 'https://mt-client-api-v1.london.agiliumtrade.ai/users/current', 'https://mt-client-api-v1.london.agiliumtrade.ai' ],
		[ '19', 'token-1', 'https://mt-client-api-v1.london.agiliumtrade.ai:443/users/current/accounts/', 'https://mt-client-api-v1.london.agiliumtrade.ai:443' ],
		[ '26', 'token-1', 'https://mt-client-api-v1.london.AgiliumTrade.ai/accounts', 'https://mt-client-api-v1.london.AgiliumTrade.ai' ],
		[ '20', 'token-1', 'https://my-agiliumtrade.ai', 'https://my-agiliumtrade.ai, provider earlier_mt5' ],
		[ '21', 'token-1', 'https://[2001:db8::1]:8443/accounts', 'https://[2001:db8::1]:8443' ] ),
	( map { [ $_->[0], 'token-1', $_->[1], 't', 'error', 'left', 'its endpoint is no valid address, or has a user name or query' ] }
		[ '22', 'https://bridge.example.com:99999' ], [ '23', 'https://bridge.example.com:0/x' ], [ '24', 'https://bridge.example.com:/x' ] ),
	# the earlier application left out what was not active for sure
	[ '25', 'token-1', "$endpoint/accounts", undef, 'error', 'would be imported', "account 25 at $endpoint, inactive" ],
	# what anybody could write must not read a secret
	map { [ $_->[0], $_->[1], $endpoint, 't', 'error', 'left', 'its token is a reference, which the earlier application did not have' ] }
	  [ '14', 'env:WFX_MT4_SECRET' ], [ '15', 'vault:wfx_mt4_secret' ]);
foreach my $row (@rows)
{
	my ($account, $token, $address, $active, $status) = map { WfxTest::literal($_) } @$row;
	$test->sql("WITH c AS (INSERT INTO trading_credentials (account_username, account_password, account_number)
		    SELECT 'u', 'p', $account WHERE $account <> '13' RETURNING id),
		  t AS (INSERT INTO traders (full_name) VALUES ('Trader ' || $account) RETURNING id),
		  a AS (INSERT INTO credential_assignments (trader_id, credential_id) SELECT t.id, c.id FROM t, c)
		INSERT INTO mt5_integrations (credential_id, mt5_account_id, mt5_api_token, mt5_server_endpoint, is_active, sync_status,
		    last_sync, created_at)
		SELECT coalesce((SELECT id FROM c), gen_random_uuid()), $account, $token, $address, $active, $status,
		    '2026-01-06', '2026-01-05'");
}
# linked again by hand
$test->sql(q{INSERT INTO mt4_integrations (credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint, mt4_platform)
	SELECT credential_id, '12', 'token-1', 'https://bridge.example.com', 'mt5' FROM mt5_integrations WHERE mt5_account_id = '12'});
my $linked = $test->sql('SELECT id FROM mt4_integrations');
@{ $rows[11] }[ 5, 6 ] = ('present', "linked already as $linked");

# What a call says, by account; nothing that it says is a token.
sub import
{
	my ($arguments) = @_;
	my $rows = $test->json("SELECT coalesce(json_agg(row_to_json(r)), '[]') FROM wfx_mt4_import_earlier($arguments) AS r");
	my %account = map { split /\|/ } split /\n/, $test->sql('SELECT id, mt5_account_id FROM mt5_integrations');

	unlike(JSON::PP::encode_json($rows), qr/(token-1|token 1|hidden|wfx_mt4_secret)/i, 'no token is shown');
	return map { ($account{ $_->{id} } // $_->{id}) => "$_->{action}: $_->{detail}" } @$rows;
}

sub contents { return $test->sql("SELECT md5(string_agg(r::text, ' ' ORDER BY id)) FROM $_[0] r"); }

my $before = contents('mt5_integrations');
my %wanted = map { $_->[0] => "$_->[5]: $_->[6]" } @rows;
is_deeply({ import('') }, \%wanted, 'what would be done');
is($test->sql('SELECT count(*) FROM mt4_integrations'), 1, 'and is not yet');
is($test->sql('SELECT count(*) FROM wfx_mt4_providers WHERE NOT builtin'), 0, 'nor a provider made');

s/^would be imported/imported/ foreach values %wanted;
is_deeply({ import('false') }, \%wanted, 'then it is done');
is( $test->sql(
		q{SELECT string_agg(concat_ws(' ', n.mt4_account_id, n.mt4_platform, n.mt4_provider, n.sync_status, n.is_active,
		    n.last_sync IS NOT NULL, n.created_at = o.created_at, n.credential_id = o.credential_id, n.mt4_api_token), ', ' ORDER BY mt5_account_id)
		FROM mt4_integrations n JOIN mt5_integrations o USING (id) WHERE mt5_account_id <= '5' AND mt5_account_id !~ '..'}),
	'1 mt5 pending t t t t token-1, 2 mt5 pending f f t t token-1, 3 mt5 earlier_mt5 pending t f t t token-1, '
	  . '4 mt5 pending t f t t token-1, 5 mt5 pending t f t t token-1',
	'with the same ids, credentials, tokens and times; only a success is one');
is(contents('mt5_integrations'), $before, 'the old table is as it was');

s/^imported: .*/present: imported before/ foreach values %wanted;
my $after = contents('mt4_integrations');
is_deeply({ import('false') }, \%wanted, 'once');
is(contents('mt4_integrations'), $after, 'again changes nothing');

# Where the earlier application asked, account 3 is asked for with its own path.
$test->sql("UPDATE mt4_integrations SET mt4_server_endpoint = '$endpoint/accounts' WHERE mt4_account_id = '3'");
foreach my $account (1, 3)
{
	my $id = $test->sql("SELECT id FROM mt4_integrations WHERE mt4_account_id = '$account'");
	my $result = $test->sync($id);
	ok($result->{success}, "account $account can be fetched") or diag $result->{message};
}
is_deeply([ map { $_->{path} } $test->provider->requests ], [ '/accounts/1', '/accounts/3' ], 'at the addresses of before');

# Endpoints of MT4 accounts that will not do.
$test->sql(q{SET wfx_mt4.allow_http = off; ALTER DATABASE postgres SET wfx_mt4.allow_http = off;
	UPDATE mt4_integrations SET mt4_server_endpoint = 'bridge.example.com?t=hidden' WHERE mt4_account_id = '12'});
$test->close_sessions;
my %found = import('');
is($found{$linked}, 'check: its endpoint is no valid address, or has a user name or query', 'an endpoint that is none');

$test->sql(q{CREATE ROLE administrator; SELECT wfx_mt4_grant('administrator', 'admin')});
like($test->error('SET ROLE administrator; SELECT wfx_mt4_import_earlier()'), qr/42501.*permission denied for wfx_mt4_import_earlier/, 'not for everybody');
$test->sql('CREATE ROLE anon; GRANT ALL ON mt5_integrations TO anon');
is( $test->sql(q{SELECT concat_ws(' ', severity, problem) FROM wfx_mt4_security_report() WHERE object ~ 'mt5_integrations'}),
	'critical anon may read column mt5_api_token',
	'the report knows the tokens of before, too');
# An integration of before the adoption may have a reference that nobody checked.
my $references = q{SELECT concat_ws(' ', severity, object, problem), remedy FROM wfx_mt4_security_report() WHERE problem ~ 'reference'};
is($test->sql($references), '', 'the report tells of no reference where there is none');
$test->sql(qq{UPDATE mt4_integrations SET mt4_api_token = 'env:WFX_MT4_SECRET' WHERE id = '$linked'});
my ($problem, $remedy) = split /\|/, $test->sql($references), 2;
is( $problem,
	'info public.mt4_integrations 1 integrations have a reference for a token; those that were there before the table was adopted were not checked',
	'and of one where there is');
is($test->sql($remedy), "$linked|env:WFX_MT4_SECRET|bridge.example.com?t=hidden", 'and how to list them');
$test->sql('DROP TABLE mt5_integrations');
is($test->sql(q{SELECT count(*) FROM wfx_mt4_import_earlier(false) WHERE object = 'mt5_integrations'}), 0, 'without such a table there is nothing to do');

$test->stop;
done_testing();
