# What applications do with @supabase/supabase-js: the calls of the earlier application
# and those that came since, with four kinds of token; statuses and bodies.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Supabase;
use Test::More;

my $UNKNOWN = '00000000-0000-0000-0000-000000000000';
my @ROLES = qw(anon authenticated organiser service_role);
my $EVERYBODY = [ 200, 200, 200, 200 ];
my $ORGANISERS = [ 401, 403, 200, 200 ];
my $ADMINISTRATORS = [ 401, 403, 403, 200 ];
my $NOBODY = [ 401, 403, 403, 403 ];

my $stack = Supabase->start;
my $good = $stack->link('1~balance-1100', name => 'Ada');
my $bad = $stack->link('2~status-401', name => 'Ben');
my $hidden = $stack->link('3~balance-5000', name => 'Cas');
$stack->sql(qq{UPDATE traders SET is_approved = false WHERE full_name = 'Cas'});

# Makes a call as each role.
sub as_all { my (%call) = @_; return map { { as => $_, %call } } @ROLES; }

subtest 'a sync' => sub {
	my ($one, $failed, $unknown, $all) = $stack->calls(
		map { { as => 'organiser', %$_ } } { rpc => 'wfx_mt4_sync', args => { integration_id => $good } },
		{ rpc => 'wfx_mt4_sync', args => { integration_id => $bad } },
		{ rpc => 'wfx_mt4_sync', args => { integration_id => $UNKNOWN } },
		{ rpc => 'wfx_mt4_sync_all' });

	is($one->{status}, 200, 'of one');
	is_deeply(
		[ @{ $one->{data} }{qw(success message synced failed integration_id)} ],
		[ JSON::PP::true, 'MT4 Sync successful', 1, 0, $good ], 'answers as before');
	is($one->{data}{account}{balance}, 1100, 'with the account');
	is($failed->{status}, 200, 'a failure is a result');
	is_deeply([ @{ $failed->{data} }{qw(success synced failed error_code)} ], [ JSON::PP::false, 0, 1, 'auth' ], 'that says why');
	like($failed->{data}{message}, qr/^MT4 Sync failed: Failed to fetch account data from MT4: HTTP 401/, 'in words');
	is($unknown->{status}, 404, 'an unknown id is 404');
	# supabase-js hands out the body of a failure as the error
	is_deeply(
		[ @{ $unknown->{error} }{qw(success message synced failed)} ],
		[ JSON::PP::false, 'MT4 Integration not found', 0, 0 ], 'with the body of the contract');
	is($all->{status}, 200, 'of all');
	is($all->{data}{message}, 'MT4 Sync complete: 2 success, 1 failed', 'counts');
	is(scalar @{ $all->{data}{errors} }, 1, 'and says what failed');
};

subtest 'the board' => sub {
	my @calls = (
		{ rpc => 'get_leaderboard', args => { limit_count => 10 } },
		{ rpc => 'wfx_mt4_leaderboard' },
		{ from => 'performance_data', select => '*, traders!inner(id, full_name, is_approved)',
			eq => [ 'traders.is_approved', JSON::PP::true ], order => 'profit_percentage' });

	foreach my $role (@ROLES)
	{
		my ($old, $new, $table) = $stack->calls(map { { as => $role, %$_ } } @calls);
		is_deeply([ map { $_->{status} } $old, $new, $table ], [ 200, 200, 200 ], "$role may");
		is_deeply([ map { "$_->{trader_name} $_->{current_balance}" } @{ $_->{data} } ], ['Ada 1100'], 'sees who is approved')
		  foreach $old, $new;
		is_deeply([ map { "$_->{traders}{full_name} $_->{current_balance}" } @{ $table->{data} } ], ['Ada 1100'], 'in the table too');
	}
	is_deeply([ map { scalar @{ $_->{data} } } $stack->calls(as_all(from => 'performance_data', select => 'trader_id')) ],
		[ 1, 1, 2, 2 ], 'only organisers and administrators see the others at all');
};

subtest 'equity curves' => sub {
	my ($shown, $kept) = map { $stack->trader($_) } $good, $hidden;
	is($stack->sql("SELECT count(*) > 0 FROM account_snapshots WHERE trader_id = '$kept'"), 't', 'there is one of a trader who is not approved');
	is_deeply([ map { [ map { $_->{balance} } @{ $_->{data} } ] } $stack->calls(as_all(rpc => 'wfx_mt4_equity_curve', args => { trader_id => $kept })) ],
		[ [], [], [], [] ], 'which nobody sees');
	is_deeply([ map { [ map { $_->{balance} } @{ $_->{data} } ] } $stack->calls(as_all(rpc => 'wfx_mt4_equity_curve', args => { trader_id => $shown })) ],
		[ [1100], [1100], [1100], [1100] ], 'as everybody sees those on the board');
};

# What each role may do, as the status of the answer; tokens are nobody's to read.
my $columns = 'id, mt4_account_id, sync_status, last_sync, last_error';
my @rights = (
	[ 'status', $ORGANISERS, rpc => 'wfx_mt4_status' ],
	[ 'summary', $ORGANISERS, rpc => 'wfx_mt4_summary' ],
	[ 'history', $ORGANISERS, rpc => 'wfx_mt4_recent_syncs', args => { limit_count => 5 } ],
	[ 'worker', $ORGANISERS, rpc => 'wfx_mt4_worker_status' ],
	[ 'a sync', $ORGANISERS, rpc => 'wfx_mt4_sync', args => { integration_id => $good } ],
	[ 'a request', [ 401, 403, 202, 202 ], rpc => 'wfx_mt4_request_sync' ],
	[ 'the equity curve', $EVERYBODY, rpc => 'wfx_mt4_equity_curve', args => { trader_id => $UNKNOWN } ],
	[ 'credentials', $ADMINISTRATORS, rpc => 'wfx_mt4_credentials' ],
	[ 'traders', $ADMINISTRATORS, rpc => 'wfx_mt4_traders' ],
	[ 'to fetch', $ADMINISTRATORS, rpc => 'wfx_mt4_fetch', args => { integration_id => $good } ],
	[ 'to pause', $ADMINISTRATORS, rpc => 'wfx_mt4_set_active', args => { integration_id => $hidden, active => JSON::PP::true } ],
	[ 'integrations without their tokens', $ORGANISERS, from => 'mt4_integrations', select => $columns ],
	[ 'history in its table', $ORGANISERS, from => 'sync_history', select => '*' ],
	[ 'tokens', $NOBODY, from => 'mt4_integrations', select => 'mt4_api_token' ],
	[ 'all columns', $NOBODY, from => 'mt4_integrations', select => '*' ],
	[ 'a token by a filter', $NOBODY, from => 'mt4_integrations', select => 'id', eq => [ 'mt4_api_token', 'token-1' ] ],
	[ 'a token in return', $NOBODY, from => 'mt4_integrations', update => { mt4_platform => 'mt4' },
		eq => [ 'id', $good ], select => 'mt4_api_token' ],
	[ 'addresses', [ 401, 403, 403, 200 ], from => 'traders', select => 'email' ],
	[ 'passwords', [ 401, 403, 403, 200 ], from => 'trading_credentials', select => 'account_password' ],
	[ 'to link by a plain insert', [ 401, 403, 403, 201 ], from => 'mt4_integrations',
		insert => { mt4_account_id => '9', mt4_api_token => 'token-9', mt4_server_endpoint => 'https://bridge.example.com' } ],
	[ 'to write the board', [ 401, 403, 403, 204 ], from => 'performance_data', update => { currency => 'USD' },
		eq => [ 'trader_id', $UNKNOWN ] ],
	[ 'to delete history', [ 401, 403, 403, 204 ], from => 'sync_history', delete => JSON::PP::true, eq => [ 'id', $UNKNOWN ] ]);
my @answers = $stack->calls(map { my (undef, undef, %call) = @$_; as_all(%call) } @rights);
foreach my $right (@rights)
{
	my ($name, $expected) = @$right;
	my @got = splice(@answers, 0, scalar @ROLES);
	is_deeply([ map { $_->{status} } @got ], $expected, $name)
	  or diag explain([ map { $_->{error} } @got ]);
	is(scalar(grep { $_->{status} =~ /^40[13]$/ && $_->{error}{code} ne '42501' } @got), 0, "$name: 42501 otherwise");
}
is($stack->request(undef, 'POST', '/rpc/wfx_mt4_sync_all', {})->{status}, 401, 'nobody is anon');
is_deeply([ @{ $_->{json} }{'code'}, $_->{status} ], [ '25006', 405 ], 'a sync is no GET')
  foreach $stack->request('organiser', 'GET', "/rpc/wfx_mt4_sync?integration_id=$good");
is($stack->request($stack->jwt('organiser', exp => time - 60), 'POST', '/rpc/wfx_mt4_status', {})->{status}, 401, 'a token expires');

subtest 'what is wrong' => sub {
	my $link = {
		credential_id => $stack->sql("SELECT credential_id FROM mt4_integrations WHERE id = '$good'"),
		account_id => '7', api_token => 'secret-token', server_endpoint => $stack->provider->endpoint };
	my $upload = { account_username => 'u', account_password => 'p', account_number => '77' };
	my @wrong = (
		[ 400, '22023', qr/^invalid account_id: /, rpc => 'wfx_mt4_link', args => { %$link, account_id => '..' } ],
		[ 400, '22023', qr/^invalid api_token: /, rpc => 'wfx_mt4_link', args => { %$link, api_token => 'secret token' } ],
		[ 400, '22023', qr/^invalid server_endpoint: /, rpc => 'wfx_mt4_link', args => { %$link, server_endpoint => 'ftp://x' } ],
		[ 400, '22023', qr/^invalid platform: /, rpc => 'wfx_mt4_link', args => { %$link, platform => 'mt6' } ],
		[ 400, '22023', qr/^invalid provider: /, rpc => 'wfx_mt4_link', args => { %$link, provider => 'none' } ],
		[ 400, '22023', qr/^invalid credential_id: /, rpc => 'wfx_mt4_link', args => { %$link, credential_id => $UNKNOWN } ],
		[ 400, '22023', qr/limit_count/, rpc => 'wfx_mt4_status', args => { limit_count => -1 } ],
		[ 400, '22023', qr/^invalid status: /, rpc => 'wfx_mt4_status', args => { status => 'bogus' } ],
		[ 400, '22023', qr/max_count/, rpc => 'wfx_mt4_sync_due', args => { max_count => -1 } ],
		[ 400, '22P02', qr/uuid/, rpc => 'wfx_mt4_sync', args => { integration_id => 'x' } ],
		[ 404, 'PT404', qr/not found/, rpc => 'wfx_mt4_fetch', args => { integration_id => $UNKNOWN } ],
		[ 404, 'PT404', qr/not found/, rpc => 'wfx_mt4_set_token', args => { integration_id => $UNKNOWN, api_token => 'x' } ],
		[ 404, 'PT404', qr/not found/, rpc => 'wfx_mt4_assign_credential', args => { trader_id => $UNKNOWN, credential_id => $UNKNOWN } ],
		[ 404, 'PGRST202', qr/wfx_mt4_sync/, rpc => 'wfx_mt4_sync' ],
		[ 409, '23505', qr/exists already/, rpc => 'wfx_mt4_upload_credential', args => $upload ],
		[ 409, '23503', qr/foreign key/, from => 'credential_assignments', insert => { trader_id => $UNKNOWN, credential_id => $UNKNOWN } ],
		[ 503, '08P01', qr/HTTP 401/, rpc => 'wfx_mt4_fetch', args => { integration_id => $bad } ]);
	my ($uploaded, @answers) = $stack->calls(map { { as => 'service_role', %$_ } }
		{ rpc => 'wfx_mt4_upload_credential', args => $upload }, map { my (undef, undef, undef, %call) = @$_; \%call } @wrong);

	is($uploaded->{status}, 200, 'a credential is uploaded');
	foreach my $wrong (@wrong)
	{
		my ($status, $code, $message, %call) = @$wrong;
		my $got = shift @answers;
		my $name = ($call{rpc} // $call{from}) . " $code";

		is($got->{status}, $status, "$name: HTTP $status");
		is($got->{error}{code}, $code, "$name: its code");
		like($got->{error}{message}, $message, "$name: which argument or row");
		unlike(JSON::PP::encode_json($got), qr/secret.?token/, "$name: no token");
	}
};

subtest 'an administrator' => sub {
	my $credential = $stack->sql("SELECT id FROM trading_credentials WHERE account_number = '77'");
	my %account = (account_id => '7~balance-1200', api_token => 'secret-token', server_endpoint => $stack->provider->endpoint);
	my ($test, $link) = $stack->calls(map { { as => 'service_role', %$_ } }
		{ rpc => 'wfx_mt4_test_connection', args => \%account },
		{ rpc => 'wfx_mt4_link', args => { %account, credential_id => $credential, platform => 'mt5' } });
	is($test->{data}{account}{balance}, 1200, 'tests a connection');
	is($link->{status}, 200, 'links an account');
	my $id = $link->{data};
	my @done = $stack->calls(map { { as => 'service_role', rpc => "wfx_mt4_$_->[0]", args => { integration_id => $id, %{ $_->[1] } } } }
		[ set_token => { api_token => 'secret-token-2' } ], [ set_active => { active => JSON::PP::false } ],
		[ set_active => { active => JSON::PP::true } ], [ sync => {} ], [ unlink => {} ], [ unlink => {} ]);
	is_deeply([ map { $_->{status} } @done ], [ 204, 200, 200, 200, 200, 404 ], 'and does all else with it');
	is($done[3]{data}{error_code}, 'no_trader', 'which has no trader yet');
	# as docs/supabase.md says of an id that is not there
	is_deeply(
		[ $done[5], $stack->calls(map { { as => 'service_role', rpc => "wfx_mt4_$_->[0]", args => { integration_id => $UNKNOWN, %{ $_->[1] } } } }
			[ set_active => { active => JSON::PP::true } ], [ request_sync => {} ]) ],
		[ map { { status => 404, data => undef, error => $_ } } JSON::PP::false, JSON::PP::false, 0 ],
		'an error of it may be false or 0');
};

is( $stack->sql(q{SELECT string_agg(concat_ws(' ', severity, object, problem), '; ') FROM wfx_mt4_security_report()
		WHERE object ~ '\.' AND object !~ '^wfx_mt4\.' AND problem !~ 'hold the token itself|without encryption'}),
	'warning public.trading_credentials service_role may read column account_password',
	'the report of all this says what the docs say');

$stack->stop;
done_testing();
