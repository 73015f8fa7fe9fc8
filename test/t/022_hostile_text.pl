# What a provider says reaches rows, results and the log clean and short, and a
# token reaches none of them.

use strict;
use warnings;

use FindBin;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start(
	conf => "log_min_messages = debug1\nlog_statement = none\n"
	  . "log_min_error_statement = panic\n");
my $token = 'Sentinel/+=%7B"tokentoken';
my $escaped = $token =~ s/([^A-Za-z0-9._~-])/sprintf('%%%02X', ord $1)/ger;
my @spellings = ($token, $escaped, encode_base64($token, ''));
my $node = $test->node;

# Returns all that is stored but the tokens themselves.
sub stored_text
{
	return join "\n",
	  map { $test->sql("SELECT $_") } (
		"string_agg((to_jsonb(i) - 'mt4_api_token')::text, ' ') FROM mt4_integrations i",
		"string_agg(h::text, ' ') FROM sync_history h",
		"string_agg(p::text, ' ') FROM performance_data p",
		"string_agg(s::text, ' ') FROM wfx_mt4_status() s",
		"string_agg(s::text, ' ') FROM wfx_mt4_recent_syncs() s");
}

# Fails if a text holds the token in any spelling.
sub holds_no_token
{
	my ($text, $where) = @_;
	my @found = grep { index($text, $_) >= 0 } @spellings;
	is("@found", '', "no token in $where");
	return;
}

subtest 'control characters' => sub {
	my $id = $test->link('4711~control');
	my $result = $test->sync($id);
	my $error = $test->integration($id)->{last_error};

	is($result->{error_code}, 'http', 'error code');
	like($error, qr/first line.*second line/, 'the text is kept');
	foreach ($error, $result->{error}, $test->history($id)->{error_message})
	{
		unlike(
			$_,
			qr/[\x00-\x1f\x7f-\x9f\x{2028}-\x{202e}\x{2066}-\x{2069}]/,
			'no control character');
		cmp_ok(length, '<', 1000, 'what is kept is short');
	}
};

subtest 'an echoed token' => sub {
	my $id = $test->link('4711~echo', mt4_api_token => $token);
	my $result = $test->sync($id);

	is(($test->provider->requests)[-1]{token}, $token, 'the token was sent');
	like($result->{error}, qr/has expired/, 'the text is kept');
	holds_no_token(JSON::PP->new->encode($result), 'the result');
	holds_no_token(JSON::PP->new->encode($test->sync_all), 'the totals');
	holds_no_token(
		$test->json(
				"SELECT wfx_mt4_test_connection('4711~echo', "
			  . WfxTest::literal($token) . ", '"
			  . $test->provider->endpoint . "')")->{error},
		'the result of a test');
	holds_no_token($test->error("SELECT wfx_mt4_fetch('$id')"),
		'the error of a fetch');
	holds_no_token(stored_text(), 'rows');
};

subtest 'arguments with a token' => sub {
	my $literal = WfxTest::literal($token);
	my $credential =
	  $test->sql("SELECT credential_id FROM mt4_integrations LIMIT 1");
	my $endpoint = $test->provider->endpoint;
	my $integration =
	  $test->sql(
		"SELECT wfx_mt4_link('$credential', '1', $literal, '$endpoint')");

	foreach (
		"wfx_mt4_link('$credential', '..', $literal, '$endpoint')",
		"wfx_mt4_link('$credential', '1', $literal, 'https://a:b\@host')",
		"wfx_mt4_link('$credential', '1', $literal, '$endpoint', 'mt6')",
		"wfx_mt4_link('$credential', '1', $literal || E'\\n', '$endpoint')",
		"wfx_mt4_set_token('$integration', $literal || ' ')",
		"wfx_mt4_set_token(gen_random_uuid(), $literal)")
	{
		my $error = $test->error("SELECT $_");
		like($error, qr/^ERROR:  (22023|PT404)/, 'is refused');
		holds_no_token($error, 'the error');
	}
};

subtest 'a refused row' => sub {
	$test->sql(
		"ALTER TABLE mt4_integrations
		ADD CONSTRAINT never CHECK (mt4_account_id <> 'never')");
	my $credential =
	  $test->sql("SELECT credential_id FROM mt4_integrations LIMIT 1");
	my $error =
	  $test->error("SELECT wfx_mt4_link('$credential', 'never', "
		  . WfxTest::literal($token) . ", '"
		  . $test->provider->endpoint
		  . "')");
	like($error, qr/23514/, 'by a constraint');
	holds_no_token($error, 'the error');
};

holds_no_token(slurp_file($node->logfile), 'the log');

$test->stop;
done_testing();
