# What follows from several syncs of an account: peak and drawdown, the time of
# an achievement, and the equity curve.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;

subtest 'peak and drawdown' => sub {
	my $id = $test->link('peak');
	my @steps = (

		# equity, credit, peak, largest drawdown
		[ 1000, 0, 1000, 0 ],
		[ 750, 0, 1000, 25 ],
		[ 2000, 0, 2000, 25 ],
		[ 1800, 0, 2000, 25 ],
		[ 3000, 2000, 2000, 50 ],
		[ 1500, 0, 2000, 50 ]);

	foreach (@steps)
	{
		my ($equity, $credit, $peak, $drawdown) = @$_;
		$test->sync_answer($id, 'peak',
			qq({"balance":1000,"equity":$equity,"credit":$credit}));
		my $row = $test->performance($id);
		is( join(' ',
				map { $_ + 0 }
				  @{$row}{qw(peak_equity max_drawdown_percentage)}),
			"$peak $drawdown",
			"equity $equity, credit $credit");
	}
};

subtest 'achieved_at is when the percentage last changed' => sub {
	my $id = $test->link('achieved');
	$test->sync_answer($id, 'achieved', '{"balance":1100}');
	my $first = $test->performance($id);

	is($first->{achieved_at}, $first->{observed_at}, 'first');
	$test->sync_answer($id, 'achieved', '{"balance":1100.00,"equity":1200}');
	my $second = $test->performance($id);
	isnt($second->{observed_at}, $first->{observed_at}, 'observed again');
	is($second->{achieved_at}, $first->{achieved_at}, 'same percentage');
	isnt($second->{$_}, $first->{$_}, $_) foreach qw(last_updated updated_at);
	$test->sync_answer($id, 'achieved', '{"balance":1200}');
	my $third = $test->performance($id);
	is($third->{achieved_at}, $third->{observed_at}, 'changed percentage');
};

subtest 'snapshots on change, at most one in snapshot_interval' => sub {
	my $id = $test->link('snapshots');
	my $count =
	  "SELECT count(*) FROM account_snapshots WHERE integration_id = '$id'";

	$test->sync_answer($id, 'snapshots',
		'{"balance":10,"equity":11,"trades":2}');
	is($test->sql($count), 1, 'the first');
	$test->sync_answer($id, 'snapshots', '{"balance":12}');
	is($test->sql($count), 1, 'too soon');
	$test->sql('UPDATE account_snapshots SET observed_at = observed_at - '
		  . "interval '1 hour'");
	$test->sync_answer($id, 'snapshots',
		'{"balance":10,"equity":11,"trades":2}');
	is($test->sql($count), 1, 'no change');
	$test->sync_answer($id, 'snapshots', '{"balance":13}');
	is($test->sql($count), 2, 'changed');
	is( $test->sql(
				"SELECT balance, equity, trades, trader_id = '"
			  . $test->trader($id)
			  . "' FROM account_snapshots WHERE integration_id = '$id'
			  ORDER BY observed_at"),
		"10|11|2|t\n13|||t",
		'contents');
};

$test->stop;
done_testing();
