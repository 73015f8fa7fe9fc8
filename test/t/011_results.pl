# The numbers that a sync writes: exact digits, the percentage, what is derived
# and what stays unknown.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;

# Sets the starting balance of an integration's trader.
sub start_with
{
	my ($id, $balance) = @_;
	my $trader = $test->trader($id);
	$balance = WfxTest::literal($balance);
	$test->sql(
		"INSERT INTO performance_data (trader_id, starting_balance)
		VALUES ('$trader', $balance)
		ON CONFLICT (trader_id) DO UPDATE SET starting_balance = $balance");
	return;
}

subtest 'balances keep the digits of the provider' => sub {
	my $id = $test->link('digits');
	my @balances = (
		[ '7306.649913200001', '7306.649913200001' ],
		[ '"10000.50"', '10000.50' ],
		[ '1000.10', '1000.10' ],
		[ '0', '0' ],
		[ '-12.30', '-12.30' ],
		[ '1e3', '1000' ],
		[ '0.1234567890123456789012345', '0.1234567890123456789012345' ],
		[ '999999999999999.99', '999999999999999.99' ]);

	foreach (@balances)
	{
		my ($sent, $stored) = @$_;
		$test->sync_answer($id, 'digits', qq({"balance":$sent}));
		is($test->performance($id)->{current_balance}, $stored, $sent);
		is( $test->sql("SELECT wfx_mt4_sync('$id') #>> '{account,balance}'"),
			$stored, "$sent in the result");
	}
};

subtest 'percentage' => sub {
	my @cases = (

		# starting balance, balance, percentage, starting balance stored
		[ 1000, '1100', '10', '1000' ],
		[ 1000, '0', '-100', '1000' ],
		[ 1000, '-500', '-150', '1000' ],
		[ '250.5', '501', '100', '250.5' ],
		[ 0, '700', '0', '0' ],
		[ undef, '1250', '25', '1000' ],
		[ -100, '100', '-200', '-100' ]);

	foreach (@cases)
	{
		my ($start, $balance, $percentage, $stored) = @$_;
		my $account = "start" . ($start // 'null') . "~balance-$balance";
		my $id = $test->link($account);
		start_with($id, $start);
		$test->sync($id);
		is( $test->sql(
				"SELECT trim_scale(profit_percentage), starting_balance,
				   profit_amount = current_balance - starting_balance
				 FROM performance_data WHERE trader_id = '"
				  . $test->trader($id) . "'"),
			"$percentage|$stored|t",
			$account);
	}
	my $id = $test->link('third~balance-1000');
	start_with($id, '3');
	$test->sync($id);
	like($test->performance($id)->{profit_percentage},
		qr/^33233\.333333333/, 'is not rounded early');
};

subtest 'a new row starts with the setting' => sub {
	my $id = $test->link('new~balance-600');
	$test->sql(
		"SET wfx_mt4.default_starting_balance = '500.00';
		SELECT wfx_mt4_sync('$id')");
	is($test->performance($id)->{starting_balance}, '500.00', 'stored');
	is($test->performance($id)->{profit_percentage} + 0, 20, 'percentage');
};

subtest 'what was not sent is unknown' => sub {
	my @unknown = qw(equity credit margin free_margin margin_level trades
	  currency);
	my $id = $test->link('bare');

	$test->sync_answer($id, 'bare',
			'{"balance":1,"equity":2,"credit":3,"margin":4,"free_margin":5,'
		  . '"margin_level":6,"trades":7,"currency":"EUR"}');
	is( join(' ', @{ $test->performance($id) }{@unknown}),
		'2 3 4 5 6 7 EUR',
		'all known');
	$test->sync_answer($id, 'bare', '{"balance":1,"equity":null}');
	is_deeply(
		[ @{ $test->performance($id) }{@unknown} ],
		[ (undef) x @unknown ],
		'all unknown');
};

subtest 'derived values' => sub {
	my $id = $test->link('derived');
	my $account;

	$account = $test->sync_answer($id, 'derived',
		'{"balance":1000,"equity":1100,"credit":60,"margin":50}')->{account};
	is($account->{profit}, 40, 'profit is equity - balance - credit');
	is($account->{margin_level}, 2200, 'level is equity / margin');
	is($test->performance($id)->{margin_level} + 0, 2200, 'level is stored');

	$account = $test->sync_answer($id, 'derived',
		'{"balance":1000,"equity":1100,"margin":0,"profit":-7,"marginLevel":9}'
	)->{account};
	is("$account->{profit} $account->{margin_level}",
		'-7 9', 'what was sent counts');

	$account =
	  $test->sync_answer($id, 'derived',
		'{"balance":1000,"equity":1100,"margin":0}')->{account};
	is($account->{profit}, undef, 'no profit without the credit');
	is($account->{margin_level}, undef, 'no level without a margin');
};

$test->stop;
done_testing();
