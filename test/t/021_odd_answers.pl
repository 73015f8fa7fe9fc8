# Good answers in odd clothing are results.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my %accounts = map { ("odd-$_~balance-1234.50~$_" => '1234.50') } qw(
  strings upper pascal tradesync
  text200 textjson
  wrapped-account wrapped-data wrapped-data-account wrapped-result
  wrapped-metrics wrapped-accountinfo wrapped-answer wrapped-answer-list
  wrapped-page
  nomargin dupother deep16
  chunked untilclose closeafter continue1xx-3 drip-1
  large-200000 largechunked-200000);

# These depend on the account, which must be found among others.
my %made = (
	'4711' => '{"count":3,"records":[{"login":1,"balance":1},'
	  . '{"login":4711,"balance":1234.50},{"login":3,"balance":3}]}',
	'4712' => '{"items":[{"login":"1","balance":"1"},'
	  . '{"login":"4712","balance":"1234.50"}]}',
	'4713' => '{"login":"0004713","balance":1234.50}',
	'18446744073709551615' =>
	  '{"login":18446744073709551615,"balance":1234.50}',
	'spaces' => " \n\t{ \"balance\" : 1234.50 }\r\n ",
	'escaped' => '{"b\u0061lance":1234.50,"comment":"\ud83d\ude00"}',
	'null-first' => '{"balance":1234.50,"equity":null,"Equity":5}');

$test->provider->control('PUT', "answer/$_", { body => $made{$_} })
  foreach keys %made;
$accounts{$_} = '1234.50' foreach keys %made;

my %ids = map { $_ => $test->link($_) } keys %accounts;
is($test->sync_all->{failed}, 0, 'none fails');
my %balances = map { split(/\|/) } split(
	/\n/,
	$test->sql(
		'SELECT mt4_account_id, coalesce(current_balance::text, last_error)
		   FROM mt4_integrations LEFT JOIN credential_assignments USING (credential_id)
		        LEFT JOIN performance_data USING (trader_id)'));
is($balances{$_}, $accounts{$_}, "account $_") foreach sort keys %accounts;

is($test->performance($ids{'null-first'})->{equity},
	undef, 'a null is unknown, not absent');
unlike(
	$test->sql("SELECT string_agg(i::text, '') FROM mt4_integrations i")
	  . $test->sql("SELECT string_agg(p::text, '') FROM performance_data p"),
	qr/hunter2/,
	'a password in an answer is kept nowhere');

$test->stop;
done_testing();
