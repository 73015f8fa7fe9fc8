# References to tokens: who may set one, how it resolves, and that a secret shows
# up nowhere.  Vault is a stand-in of the same shape.
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
wfx_mt4.concurrency = 8
},
	env => {
		WFX_MT4_TOKEN => 'env-S3cr3t', WFX_MT4_BAD => "two words", OTHER_SECRET => 'other-S3cr3t' });
my $node = $test->node;
my $provider = $test->provider;
my $endpoint = $provider->endpoint;

# Vault as the extension supabase_vault has it; a secret "broken" does not decrypt.
$test->sql(
	q{CREATE SCHEMA vault;
	CREATE TABLE vault.secrets (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text,
		description text NOT NULL DEFAULT '', secret text NOT NULL);
	CREATE UNIQUE INDEX ON vault.secrets (name) WHERE name IS NOT NULL;
	CREATE FUNCTION vault.decrypt(text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		IF $1 = reverse('broken') THEN
			RAISE EXCEPTION 'invalid ciphertext' USING ERRCODE = '22000';
		END IF;
		RETURN reverse($1);
	END $$;
	CREATE VIEW vault.decrypted_secrets AS
		SELECT id, name, description, secret, vault.decrypt(secret) AS decrypted_secret FROM vault.secrets;
	CREATE FUNCTION vault.create_secret(new_secret text, new_name text DEFAULT NULL,
		new_description text DEFAULT '', new_key_id uuid DEFAULT NULL) RETURNS uuid LANGUAGE sql AS
		$$ INSERT INTO vault.secrets (name, description, secret) VALUES ($2, $3, reverse($1)) RETURNING id $$;
	SELECT vault.create_secret('vault-S3cr3t', 'wfx_mt4_main'), vault.create_secret('other-S3cr3t', 'other'),
		vault.create_secret('broken', 'wfx_mt4_broken'), vault.create_secret('', 'wfx_mt4_empty'),
		vault.create_secret(E'pasted-S3cr3t\n', 'wfx_mt4_newline')});

sub token_of
{
	my ($account) = @_;
	my @sent = grep { ($_->{account} // '') eq $account } $provider->requests;
	return @sent ? $sent[-1]{token} : undef;
}

subtest 'what a reference becomes' => sub {
	my %want = (
		'vault:wfx_mt4_main' => 'vault-S3cr3t',
		'env:WFX_MT4_TOKEN' => 'env-S3cr3t');
	my $account = 100;

	foreach my $reference (sort keys %want)
	{
		my $id = $test->link(++$account, mt4_api_token => $reference);
		is($test->sync($id)->{error_code}, undef, "$reference resolves");
		is(token_of($account), $want{$reference}, 'to its secret');
	}
	my %fails = (
		'vault:wfx_mt4_missing' => qr/no such secret/,
		'vault:wfx_mt4_empty' => qr/no such secret/,
		'vault:wfx_mt4_broken' => qr/SQLSTATE 22000.*root key/,
		'vault:wfx_mt4_newline' => qr/line break/,
		'env:WFX_MT4_NONE' => qr/no such secret/,
		'env:WFX_MT4_BAD' => qr/a space/);
	foreach my $reference (sort keys %fails)
	{
		my $id = $test->link(++$account, mt4_api_token => $reference);
		my $result = $test->sync($id);
		is($result->{error_code}, 'secret', "$reference is an error");
		like($result->{error}, $fails{$reference}, 'that says why');
		is(token_of($account), undef, 'nothing is sent');
	}
	# rows that reached the table in another way
	foreach my $reference ('vault:other', 'env:OTHER_SECRET', 'env:PATH', 'vault:', 'env:')
	{
		my $id = $test->link(++$account);
		$test->sql("UPDATE mt4_integrations SET mt4_api_token = '$reference' WHERE id = '$id'");
		my $result = $test->sync($id);
		is($result->{error_code}, 'secret', "$reference is no secret of ours");
		like($result->{error}, qr/there is no such secret/, 'as one that does not exist');
	}
};

subtest 'together' => sub {
	$test->reset;
	my %token = (1 => 'vault:wfx_mt4_main', 2 => 'vault:wfx_mt4_broken', 3 => 'env:WFX_MT4_TOKEN',
		4 => 'plain', 5 => 'vault:wfx_mt4_main');
	my %id = map { $_ => $test->link($_, mt4_api_token => $token{$_}) } keys %token;
	my $totals = $test->sync_all;
	is("$totals->{synced} $totals->{failed}", '4 1', 'one that does not decrypt fails alone');
	is(token_of($_->[0]), $_->[1], "account $_->[0]")
	  foreach [ 1, 'vault-S3cr3t' ], [ 3, 'env-S3cr3t' ], [ 4, 'plain' ], [ 5, 'vault-S3cr3t' ];

	$test->sql(q{UPDATE vault.secrets SET secret = reverse('rotated-S3cr3t') WHERE name = 'wfx_mt4_main'});
	$test->sql("SELECT wfx_mt4_request_sync('$id{1}')");
	WfxTest::wait_until(sub { (token_of(1) // '') eq 'rotated-S3cr3t' }, 'the worker to use the new secret');
	pass('the worker resolves references, and sees a new secret at once');
	is($test->json("SELECT wfx_mt4_test_connection('9', 'vault:wfx_mt4_main', '$endpoint')")->{success},
		1, 'a reference can be tried');
};

subtest 'who may refer' => sub {
	$test->sql(q{CREATE ROLE organiser; CREATE ROLE clerk; CREATE ROLE keeper;
		SELECT wfx_mt4_grant('clerk', 'admin'), wfx_mt4_grant('keeper', 'admin');
		GRANT USAGE ON SCHEMA vault TO keeper; GRANT SELECT ON vault.decrypted_secrets TO keeper;
		GRANT INSERT, UPDATE, SELECT ON mt4_integrations, trading_credentials TO clerk;
		ALTER TABLE mt4_integrations DISABLE ROW LEVEL SECURITY});
	my $id = $test->link('50');
	my $set = sub {
		my ($role, $reference) = @_;
		return $test->error("SET ROLE $role; SELECT wfx_mt4_set_token('$id', '$reference')");
	};
	my $may = sub {
		my ($role, $reference) = @_;
		$test->sql("SET ROLE $role; SELECT wfx_mt4_set_token('$id', '$reference'); RESET ROLE");
		is($test->sql("SELECT mt4_api_token FROM mt4_integrations WHERE id = '$id'"), $reference,
			"$role may refer to $reference");
	};

	like($set->('clerk', $_), qr/42501: permission denied to refer to a secret/, "$_ is refused")
	  foreach 'vault:wfx_mt4_main', 'env:WFX_MT4_TOKEN';
	like($test->error("SET ROLE clerk; SELECT wfx_mt4_test_connection('1', 'vault:wfx_mt4_main', '$endpoint')"),
		qr/42501: permission denied to refer/, 'nor may it be tried');
	like($test->error("SET ROLE clerk; UPDATE mt4_integrations SET mt4_api_token = 'vault:wfx_mt4_main' WHERE id = '$id'"),
		qr/42501: permission denied to refer/, 'nor set by an UPDATE');
	like($test->error("SET ROLE clerk; INSERT INTO mt4_integrations (mt4_account_id, mt4_api_token,
		mt4_server_endpoint) VALUES ('1', 'env:WFX_MT4_TOKEN', '$endpoint')"),
		qr/42501: permission denied to refer/, 'nor by an INSERT');
	$test->sql('CREATE ROLE half; GRANT SELECT ON vault.decrypted_secrets TO half');
	$test->sql(q{SELECT wfx_mt4_grant('half', 'admin')});
	like($set->('half', 'vault:wfx_mt4_main'), qr/42501/, 'SELECT without USAGE is not enough');
	$may->('clerk', 'a-token');
	$may->('keeper', 'vault:wfx_mt4_main');
	like($set->('keeper', 'env:WFX_MT4_TOKEN'), qr/42501/, 'Vault is not the environment');
	$test->sql("SET ROLE clerk; UPDATE mt4_integrations SET mt4_account_id = '51' WHERE id = '$id'; RESET ROLE");
	pass('a row with a reference can be changed otherwise');
	$test->sql("SET ROLE clerk; UPDATE mt4_integrations SET mt4_server_endpoint = 'http://other.example.com' WHERE id = '$id'; RESET ROLE");
	is($test->sql("SELECT mt4_api_token FROM mt4_integrations WHERE id = '$id'"), '',
		'a reference is cleared with the endpoint');
	like($set->('postgres', $_), qr/22023: invalid api_token/, "$_ is no reference")
	  foreach 'vault:other', 'env:PATH', 'env:WFX_MT4_A=B', 'vault:', 'env:';
};

subtest 'the owner reads' => sub {
	$test->reset;
	$test->sql("ALTER TABLE $_ OWNER TO organiser")
	  foreach qw(traders trading_credentials credential_assignments performance_data
	  mt4_integrations sync_history account_snapshots);
	$test->sql(q{SELECT wfx_mt4_grant('organiser', 'admin'); GRANT ALL ON SCHEMA public TO organiser});
	my $id = $test->link('60', mt4_api_token => 'vault:wfx_mt4_main');
	like($test->sync($id)->{error}, qr/role "organiser" may not read vault\.decrypted_secrets.*GRANT/,
		'with his own rights');
	$test->sql(q{GRANT USAGE ON SCHEMA vault TO organiser; GRANT SELECT ON vault.decrypted_secrets TO organiser;
		GRANT EXECUTE ON FUNCTION vault.decrypt(text) TO organiser});
	is($test->sync($id)->{success}, 1, 'once he may');

	# a vault that anybody could have made
	$test->sql(q{CREATE ROLE stranger; ALTER VIEW vault.decrypted_secrets OWNER TO stranger});
	like($test->sync($id)->{error}, qr/belongs to a role that is neither a superuser nor/,
		'but no view of a stranger');
	$test->sql(q{ALTER VIEW vault.decrypted_secrets OWNER TO CURRENT_USER});

	# who owns the schema can put a view of his own there, also for a moment
	$test->sql(q{ALTER SCHEMA vault OWNER TO stranger; SELECT wfx_mt4_grant('stranger', 'admin');
		GRANT SELECT ON vault.decrypted_secrets TO stranger});
	like($test->sync($id)->{error}, qr/or its schema belongs to a role/, 'nor one in the schema of a stranger');
	like($test->error("SET ROLE stranger; SELECT wfx_mt4_set_token('$id', 'vault:wfx_mt4_main')"), qr/42501/,
		'who may refer to nothing there');
	like($test->error('SELECT wfx_mt4_move_tokens_to_vault()'), qr/55000/, 'and is given nothing');
	$test->sql(q{ALTER SCHEMA vault OWNER TO CURRENT_USER});
};

subtest 'moving tokens' => sub {
	$test->reset;
	$test->link($_, mt4_api_token => $_ < 73 ? 'shared-S3cr3t' : "own-S3cr3t-$_") foreach 71 .. 74;
	$test->link('75', mt4_api_token => 'env:WFX_MT4_TOKEN');
	WfxTest::wait_until(sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'}) == 5 },
		'the first syncs');
	$test->sql(q{UPDATE mt4_integrations SET paused_until = now() + interval '30 min', next_sync_at = now() + interval '40 min'});

	# An error of Vault's shows no token.
	$test->sql(q{ALTER TABLE vault.secrets ADD CONSTRAINT no_more CHECK (name NOT LIKE 'wfx_mt4_%-%') NOT VALID});
	my $error = $test->error('SELECT wfx_mt4_move_tokens_to_vault()');
	like($error, qr/23514/, 'an error of Vault is one of the call');
	unlike($error, qr/S3cr3t|t3rc3S/, 'and shows no token');
	$test->sql('ALTER TABLE vault.secrets DROP CONSTRAINT no_more');

	# Two calls at once: the second one finds nothing to do.
	my $secrets = $test->sql('SELECT count(*) FROM vault.secrets');
	my @sessions = map { $test->session } 1 .. 2;
	$sessions[0]->query('BEGIN; SET client_min_messages = error; SELECT wfx_mt4_move_tokens_to_vault()');
	WfxTest::send_query($sessions[1], 'SET client_min_messages = error; SELECT wfx_mt4_move_tokens_to_vault()');
	usleep(300_000);
	$sessions[0]->query('ROLLBACK; BEGIN; SET client_min_messages = error; SELECT wfx_mt4_move_tokens_to_vault()');
	$sessions[0]->query('COMMIT');
	WfxTest::finish_query($sessions[1]);
	$_->quit foreach @sessions;
	is($test->sql('SELECT count(*) FROM vault.secrets'), $secrets + 3, 'two calls at once make no secret twice');
	is($test->sql(q{SELECT count(*) FROM mt4_integrations WHERE paused_until > now() + interval '20 min'
		AND next_sync_at > now() + interval '30 min'}), 5, 'a pause stays, and nothing is due any sooner');
	$test->sql('UPDATE mt4_integrations SET paused_until = NULL');
	$test->sql(q{UPDATE mt4_integrations SET mt4_api_token = v.token, next_sync_at = now()
		FROM (VALUES ('71', 'shared-S3cr3t'), ('72', 'shared-S3cr3t'), ('73', 'own-S3cr3t-73'), ('74', 'own-S3cr3t-74')) AS v (account, token)
		WHERE mt4_account_id = v.account});
	like($test->error('SET ROLE clerk; SELECT wfx_mt4_move_tokens_to_vault()'), qr/42501/,
		'not everybody may');
	my ($status, $moved, $warning) = $node->psql('postgres', 'SELECT wfx_mt4_move_tokens_to_vault()');
	is($moved, 4, 'all tokens are moved');
	like($warning, qr/WARNING:  backups, WAL archives and replicas from before still hold the tokens/,
		'what is left to do is said');
	is($test->sql(q{SELECT count(DISTINCT mt4_api_token) || ' ' || bool_and(mt4_api_token ~ '^vault:wfx_mt4_.{36}$')
		FROM mt4_integrations WHERE mt4_account_id < '75'}), '3 true', 'one secret for each token');
	my $totals = $test->sync_all;
	is("$totals->{synced} $totals->{failed}", '5 0', 'and everything goes on');
	is(token_of('72'), 'shared-S3cr3t', 'with the same token');
	is($test->sql('SELECT wfx_mt4_move_tokens_to_vault()'), 0, 'a second time there is nothing to do');
	$test->sql(q{ALTER FUNCTION vault.create_secret(text, text, text, uuid) OWNER TO stranger});
	like($test->error('SELECT wfx_mt4_move_tokens_to_vault()'), qr/55000.*create_secret/,
		"nothing is given to a stranger's function");
};

unlike(slurp_file($node->logfile) =~ s/^.*statement: .*\n(?:\t.*\n)*//mgr, qr/S3cr3t/,
	'no secret is in the log, statements apart');
$test->stop;
done_testing();
