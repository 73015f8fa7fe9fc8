# Every bad answer has its error code, changes no stored number and does not
# disturb the accounts that are synchronised beside it.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

# Directives of the stand-in provider, with the error codes that may result.
my @bridge = (

	# no account in a good status
	[ 'empty' => 'not_json' ],
	[ 'html200' => 'not_json' ],
	[ 'tokentext' => 'not_json' ],
	[ 'null200' => 'bad_data' ],
	[ 'array200' => 'bad_data' ],
	[ 'number200' => 'bad_data' ],
	[ 'datanumber' => 'bad_data' ],
	[ 'resultfail' => 'bad_data' ],
	[ 'codemessage' => 'bad_data' ],
	[ 'retcode' => 'bad_data' ],
	[ 'success-false' => 'bad_data' ],
	[ 'statuserror' => 'bad_data' ],
	[ 'error-true' => 'bad_data' ],
	[ 'errortext' => 'bad_data' ],
	[ 'errorid' => 'bad_data' ],
	[ 'errormessage' => 'bad_data' ],
	[ 'synced-false' => 'not_connected' ],
	[ 'connected-false' => 'not_connected' ],
	[ 'connectionlost' => 'not_connected' ],

	# numbers
	[ 'nobalance' => 'bad_data' ],
	[ 'nullbalance' => 'bad_data' ],
	[ 'boolbalance' => 'bad_data' ],
	[ 'nan' => 'bad_data|not_json' ],
	[ 'infinity' => 'bad_data|not_json' ],
	[ 'huge' => 'bad_data' ],
	[ 'big' => 'bad_data' ],
	[ 'balance--1e15' => 'bad_data' ],
	[ 'longnumber' => 'bad_data' ],
	[ 'thousands' => 'bad_data' ],
	[ 'word' => 'bad_data' ],
	[ 'balance-0x10' => 'bad_data|not_json' ],
	[ 'balance-01' => 'bad_data|not_json' ],
	[ 'balance-"NaN"' => 'bad_data' ],
	[ 'balance-"-Infinity"' => 'bad_data' ],
	[ 'balance-""' => 'bad_data' ],
	[ 'balance-"1 "' => 'bad_data' ],

	# JSON
	[ 'bom' => 'not_json' ],
	[ 'nul' => 'not_json' ],
	[ 'trailing' => 'not_json' ],
	[ 'twodocs' => 'not_json' ],
	[ 'cutclose' => 'not_json' ],
	[ 'dup' => 'bad_data' ],
	[ 'dupesc' => 'bad_data' ],
	[ 'escnul' => 'bad_data|not_json' ],
	[ 'badutf8' => 'bad_data|not_json' ],
	[ 'overlong' => 'bad_data|not_json' ],
	[ 'surrogate' => 'bad_data|not_json' ],
	[ 'beyond' => 'bad_data|not_json' ],
	[ 'deep' => 'bad_data|not_json' ],
	[ 'deep17' => 'bad_data|not_json' ],

	# other statuses
	[ 'error201' => 'http' ],
	[ 'invalidtoken201' => 'http' ],
	[ 'done201' => 'http' ],
	[ 'pending202' => 'http' ],
	[ 'no-content204' => 'http' ],
	[ 'redirect' => 'redirect' ],
	[ 'status-400' => 'http' ],
	[ 'timeout400' => 'http' ],
	[ 'status-401' => 'auth' ],
	[ 'status-401~empty' => 'auth' ],
	[ 'status-403' => 'forbidden' ],
	[ 'status-404' => 'not_found' ],
	[ 'notconnected404' => 'not_connected' ],
	[ 'status-409' => 'http' ],
	[ 'validation422' => 'http' ],
	[ 'status-429' => 'rate_limited' ],
	[ 'status-500' => 'http' ],
	[ 'reason500' => 'http' ],
	[ 'status-502~html' => 'http' ],
	[ 'busy503' => 'http' ],
	[ 'unavailable503' => 'http' ],
	[ 'status-503~retry-60' => 'http' ],
	[ 'mrpc504' => 'http' ],

	# the wire
	[ 'large-300000' => 'too_large' ],
	[ 'largechunked-300000' => 'too_large' ],
	[ 'largechunked-10000000' => 'too_large' ],
	[ 'headerflood' => 'too_large' ],
	[ 'truncated' => 'connect' ],
	[ 'cut' => 'connect' ],
	[ 'close' => 'connect' ],
	[ 'reset' => 'connect' ],
	[ 'garbage' => 'http' ],
	[ 'http09' => 'http' ],
	[ 'gzip' => 'bad_data|not_json' ],
	[ 'hang' => 'timeout' ],
	[ 'drip-50' => 'timeout' ],
	[ 'dripheaders-50' => 'timeout' ]);

my @metaapi = (
	[ 'validation400' => 'http' ],
	[ 'auth401' => 'auth' ],
	[ 'billing403' => 'forbidden' ],
	[ 'region404' => 'not_found' ],
	[ 'penalty429' => 'rate_limited' ],
	[ 'recommended-60' => 'rate_limited' ],
	[ 'error500' => 'http' ],
	[ 'notconnected504' => 'not_connected' ],
	[ 'html' => 'not_json' ],
	[ 'nobalance' => 'bad_data' ],
	[ 'dup' => 'bad_data' ],
	[ 'word' => 'bad_data' ]);

# Answers that name the account that they are about.
my %made = (
	4711 => '{"login":4712,"balance":1}',
	4811 => '{"data":[]}',
	4911 => '{"records":[{"login":1,"balance":1},{"login":2,"balance":2}]}');

my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.request_timeout = 2s
wfx_mt4.connect_timeout = 1s
wfx_mt4.concurrency = 200
wfx_mt4.poll_interval = 1h
});
my $unused_port = PostgreSQL::Test::Cluster::get_free_port();
my (%expected, @good);

# Links an account with a token of its own, so that no pause concerns others,
# and a good one beside it.
sub link_bad
{
	my ($account, $codes, %options) = @_;
	my $n = 1 + keys %expected;
	my $id = $test->link($account, mt4_api_token => "token-$n", %options);

	$expected{$id} = [ $account, $codes ];
	push @good, $test->link("good-$n") if $n % 5 == 1;
	return;
}

# The account id says what happens; what it cannot hold is asked for by number.
sub account_of
{
	my ($directive) = @_;
	return "4711~$directive" if $directive =~ /^[\w.~-]+$/;
	my ($balance) = $directive =~ /^balance-(.*)/ or die $directive;
	my $account = 'made-' . (1 + keys %made);
	$made{$account} = qq({"balance":$balance});
	return $account;
}

link_bad(account_of($_->[0]), $_->[1]) foreach @bridge;
link_bad(account_of($_->[0]), $_->[1], mt4_provider => 'metaapi')
  foreach @metaapi;
link_bad('4711', 'bad_data');
link_bad('4811', 'bad_data');
link_bad('4911', 'bad_data');
link_bad('refused', 'connect',
	mt4_server_endpoint => "http://127.0.0.1:$unused_port");
$test->provider->control('PUT', "answer/$_", { body => $made{$_} })
  foreach keys %made;

# What is stored of each, but for the good ones, is never to change.
$test->sql(
	"INSERT INTO performance_data (trader_id, starting_balance,
	  current_balance, equity, profit_percentage, achieved_at, observed_at)
	SELECT trader_id, 250.5, 300.25, 17, 19.86, '2026-01-01', '2026-01-02'
	  FROM credential_assignments");
my $good_ids = join(',', map { "'$_'" } @good);
my $digest = "SELECT md5(string_agg(p::text, ' ' ORDER BY p.id))
	FROM performance_data p JOIN credential_assignments USING (trader_id)
	JOIN mt4_integrations i USING (credential_id) WHERE i.id NOT IN ($good_ids)";
my $before = $test->sql($digest);
my $result = $test->sync_all;

is( $result->{message},
	sprintf(
		'MT4 Sync complete: %d success, %d failed',
		scalar @good, scalar keys %expected),
	'totals');
is($test->sql($digest), $before, 'the stored numbers are as they were');

my %rows = map { $_->{id} => $_ } @{
	$test->json(
		'SELECT json_agg(i) FROM (SELECT id, error_code, last_error, sync_status,
		   last_sync FROM mt4_integrations) AS i') };

foreach (sort { $expected{$a}[0] cmp $expected{$b}[0] } keys %expected)
{
	my ($account, $codes) = @{ $expected{$_} };
	my $row = $rows{$_};

	like($row->{error_code} // '', qr/^($codes)$/, "$account is $codes")
	  or diag($row->{last_error});
	like(
		$row->{last_error} // '',
		qr/^Failed to fetch account data from MT4: \S.*[.] .*[.]$/,
		"$account says why and what to check");
}
is($rows{$_}{sync_status}, 'success', 'the good one beside it') foreach @good;
is( $test->sql(
		'SELECT count(*) FROM mt4_integrations WHERE last_sync IS NOT NULL'),
	scalar @good,
	'nothing else counts as synced');

# The same, several times over, for the worker.
my $board = q{SELECT md5(string_agg(trader_id || ' ' || current_balance || ' ' || profit_percentage, ','))
	FROM wfx_mt4_leaderboard()};
my $order = $test->sql($board);
$test->sql(q{ALTER SYSTEM SET wfx_mt4.databases = 'postgres'});
$test->sql('SELECT pg_reload_conf()');
$test->wait_worker('running');
my $pid = $test->worker->{pid};

sub memory
{
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB$/m;
	return $kb;
}

# Has the worker synchronise every account once more.
sub sync_again
{
	my $now = $test->sql('SELECT clock_timestamp()');
	$test->sql('SELECT wfx_mt4_request_sync(id) FROM mt4_integrations');
	WfxTest::wait_until(
		sub { $test->sql("SELECT count(*) FROM mt4_integrations WHERE last_attempt < '$now'") == 0 },
		'every account');
	return;
}

sync_again() foreach 1 .. 2;
my $memory = memory();
sync_again() foreach 1 .. 3;
cmp_ok(memory() - $memory, '<', 16 * 1024, 'kB of memory that the worker keeps');
is($test->worker->{pid}, $pid, 'the worker lives');
is($test->sql($digest), $before, 'the stored numbers are as they were');
is($test->sql($board), $order, 'and so is the leaderboard');
# others may hold up one of the rounds
cmp_ok($test->sql('SELECT max(ms) FROM (SELECT min(duration_ms) AS ms FROM sync_history GROUP BY integration_id) AS s'),
	'<', WfxTest::limit(3000), 'no sync took a second more than its limit');
my $codes = $test->json('SELECT json_object_agg(id, error_code) FROM mt4_integrations');
# a pause of one's own making answers by itself
my @wrong = grep { ($codes->{$_} // '') !~ /^($expected{$_}[1])$/ && $codes->{$_} ne 'rate_limited' } keys %expected;
is(join(', ', map { "$expected{$_}[0] $codes->{$_}" } @wrong), '', 'each has its error code');

$test->stop;
done_testing();
