# A token, in no spelling, reaches the log at any level, an activity, a statement
# that is remembered, a notification, a column, a dump, or another host.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More;
use Time::HiRes qw(usleep);
use WfxTest;

my $secret = 'Hush7x+tok/en?=~42>>';
my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'pg_stat_statements, wfx_mt4'
pg_stat_statements.track = all
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1s'
wfx_mt4.retry_base = '1s'
wfx_mt4.retry_cap = '1s'
log_min_messages = debug5
log_error_verbosity = verbose
log_statement = none
logging_collector = on
log_destination = 'stderr,csvlog'
log_directory = 'log'
log_filename = 'all.log'
});
my $node = $test->node;
my $provider = $test->provider;
my $endpoint = $provider->endpoint;

# The other host, to which redirects point.
my $elsewhere = StandIn->start(log => PostgreSQL::Test::Utils::tempdir() . '/elsewhere.log');

my $percent = $secret =~ s/([^\w.~-])/sprintf('%%%02X', ord $1)/ger;
my @spellings = ($secret, $percent, 'Hush7x');
foreach my $prefix ('', 'a', 'ab')
{
	my $encoded = encode_base64("$prefix$secret", '');
	# without the digits that depend on the neighbours
	my $inner = substr($encoded, 4, 20);
	push @spellings, $inner, $inner =~ tr{+/}{-_}r;
}
my $pattern = join('|', map { quotemeta } @spellings);
like($_, qr/$pattern/, "the search finds $_") foreach $secret, encode_base64("Bearer $secret", '');

sub clean
{
	my ($text, $name) = @_;
	$text =~ s/($pattern)/<<$1>>/gi;
	my ($found) = $text =~ /(.{0,80}<<.{0,80})/s;
	ok(!defined $found, $name) or diag $found;
	return;
}

# The token comes from a file, as a parameter comes from an application: it is in no
# statement.
append_to_file($node->data_dir . '/token', $secret);
my $token = q{pg_read_file('token')};
$test->sql('CREATE EXTENSION pg_stat_statements');
my @accounts = (
	'1', '2~status-401', '3~echo', '4~status-429~retry-1', '5~garbage', '6~html200', '7~control',
	'8~status-500', '9~reset', '10~drip-10', '11~truncated', '12~nan', '13~redirect');
my $n = 0;
my %ids;
foreach my $account (@accounts)
{
	my $credential = $test->sql("WITH t AS (INSERT INTO traders (full_name, is_approved) VALUES ('T$n', true) RETURNING id),
		c AS (INSERT INTO trading_credentials (account_username, account_password, account_number)
		  VALUES ('u', 'p', 'number-$n') RETURNING id),
		a AS (INSERT INTO credential_assignments (trader_id, credential_id) SELECT t.id, c.id FROM t, c)
		SELECT id FROM c");
	# the pause that one of them asks for is not to silence the others
	my $where = $account =~ /429/ ? $endpoint =~ s/127\.0\.0\.1/localhost/r : $endpoint;
	$ids{$account} = $test->sql("SELECT wfx_mt4_link('$credential', '$account', $token, '$where')");
	$n++;
}
$provider->control('PUT', 'answer/14', { status => 302,
	headers => { Location => $elsewhere->endpoint . '/accounts/14' }, body => '' });
$test->sql("SELECT wfx_mt4_set_token(wfx_mt4_link((SELECT id FROM trading_credentials LIMIT 1), '14', 'x', '$endpoint'), $token)");

# A listener hears everything; samples are taken while syncs are under way.
my $listener = $test->session;
$listener->query_safe('LISTEN wfx_mt4');
my ($activity, $heard, $answers) = ('', '', '');
$test->wait_worker('running');
foreach my $round (1 .. 20)
{
	usleep(150_000);
	$provider->control('PUT', 'answer/1', { body => "{\"balance\": $round}" });
	$activity .= $test->sql(q{SELECT string_agg(to_json(a)::text, E'\n') FROM pg_stat_activity a
		WHERE pid <> pg_backend_pid()}) . "\n";
	my ($output) = $listener->query('SELECT 1');
	$heard .= $output;
}
foreach my $account (sort keys %ids)
{
	$answers .= $test->sql("SELECT wfx_mt4_sync('$ids{$account}')") . "\n";
	$answers .= $test->error("SELECT * FROM wfx_mt4_fetch('$ids{$account}')") . "\n" unless $account eq '1';
	$answers .= $test->sql("SELECT wfx_mt4_test_connection('$account', $token, '$endpoint')") . "\n";
}
$answers .= $test->sql('SELECT wfx_mt4_sync_all()') . "\n";
$answers .= $test->error("SELECT wfx_mt4_set_token(gen_random_uuid(), $token)") . "\n";
$answers .= $test->error("SELECT wfx_mt4_set_token('$ids{1}', $token || ' ' || $token)") . "\n";
$answers .= $test->error("SELECT wfx_mt4_link(gen_random_uuid(), '1', $token, '$endpoint')") . "\n";
$answers .= $test->sql("SELECT string_agg(to_json(s)::text, E'\\n') FROM $_ s") . "\n"
  foreach 'wfx_mt4_status()', 'wfx_mt4_recent_syncs(NULL, 1000)', 'wfx_mt4_leaderboard()',
  'wfx_mt4_worker_status()', 'wfx_mt4_security_report()';

# Everything that was sent did carry the token.
ok((grep { $_->{token} eq $secret } $provider->requests) > 20, 'the token was used');
cmp_ok(scalar(() = $activity =~ /wfx_mt4/g), '>', 10, 'the worker was looked at');
clean($activity, 'no activity');
clean($heard, 'no notification');
clean($answers, 'no answer and no error');
clean($test->sql('SELECT string_agg(query, E\'\n\') FROM pg_stat_statements'), 'no statement');
foreach my $table (
	qw(traders trading_credentials credential_assignments performance_data
	sync_history account_snapshots wfx_mt4_providers))
{
	clean($test->sql("SELECT coalesce(string_agg(to_json(t)::text, E'\\n'), '') FROM $table t"), "no row of $table");
}
clean($test->sql("SELECT string_agg((to_jsonb(t) - 'mt4_api_token')::text, E'\\n') FROM mt4_integrations t"),
	'no other column of mt4_integrations');
my ($dump) = run_command([ 'pg_dump', '--exclude-table-data=mt4_integrations', $node->connstr('postgres') ]);
like($dump, qr/COPY public\.sync_history/, 'a dump was made');
clean($dump, 'no dump without the table of tokens');
is(scalar $elsewhere->requests, 0, 'nothing was sent to another host');

$listener->quit;
$test->stop;
foreach my $file (glob($node->data_dir . '/log/*'))
{
	my $text = slurp_file($file);
	cmp_ok(length $text, '>', 100_000, 'a log at debug5: ' . ($file =~ s/.*\.//r));
	clean($text, 'holds no token');
}
$elsewhere->stop;
done_testing();
