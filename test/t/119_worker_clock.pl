# The clock is set back, and forward: accounts go on being synchronised on time, and
# not all at once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use List::Util qw(max min);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep clock_gettime CLOCK_MONOTONIC);
use WfxTest;

my $accounts = 50;
my $dir = PostgreSQL::Test::Utils::tempdir();
my $clock = "$dir/clock";
my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '2s'
},
	env => { LD_PRELOAD => WfxTest::build_resolver("$dir/clock.so"), WFX_TEST_CLOCK => $clock });
my $provider = $test->provider;
my $shift = 0;

# Sets the server's clock, in one step.
sub set_clock
{
	my ($seconds) = @_;
	$shift += $seconds;
	append_to_file("$clock.new", $shift);
	rename "$clock.new", $clock or die "could not rename: $!";
	return clock_gettime(CLOCK_MONOTONIC);
}

$test->wait_worker('running');
$test->link_many($accounts, 'n');
WfxTest::wait_until(sub { $provider->stats->{requests} >= 2 * $accounts }, 'two syncs of each');
foreach my $step (-7200, 86400)
{
	my $start = set_clock($step);
	usleep(10_000_000);
	my (%count, %bin);
	foreach my $request (grep { $_->{start} >= $start } $provider->requests)
	{
		$count{ $request->{account} }++;
		$bin{ int(10 * ($request->{start} - $start)) }++;
	}
	is(scalar keys %count, $accounts, "every account is synchronised after a step of $step s");
	cmp_ok(min(values %count), '>=', 3, 'again and again');
	cmp_ok(max(values %count), '<=', 7, 'but not more often than usual');
	cmp_ok(max(values %bin), '<', $accounts / 2, 'nor all at once');
	$test->node->wait_for_log(qr/LOG:  the clock was set by \Q$step\E s/);
}
is($test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status <> 'syncing'
	AND next_sync_at > clock_timestamp() + interval '3 s'}),
	0, 'nothing is put off');
$test->stop;
done_testing();
