# Triggers that call the extension from within what it writes.
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
wfx_mt4.databases = ''
});
my $node = $test->node;

# Requests for the other account.
sub requests { return scalar grep { ($_->{account} // '') eq '4712' } $test->provider->requests; }

my $id = $test->link('4711');
my $other = $test->link('4712');

# Which would wait for a provider in the middle of a transaction.
$test->sql(qq{CREATE FUNCTION nested() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS \$f\$
	BEGIN
	  GRANT SELECT ON performance_data TO PUBLIC;
	  PERFORM wfx_mt4_status(), wfx_mt4_request_sync('$other');
	  PERFORM wfx_mt4_sync('$other');
	  RETURN NEW;
	END \$f\$});
$test->sync_all;
$test->sql(q{CREATE TRIGGER nested AFTER UPDATE ON performance_data FOR EACH ROW EXECUTE FUNCTION nested()});
my $asked = requests();
foreach my $round (1 .. 3)
{
	like($test->sync($id)->{error}, qr/55000 wfx_mt4_sync\(\) cannot be called from a trigger/,
		"a trigger cannot have another account asked for, $round");
}
is(requests(), $asked, 'nor is it');

foreach my $call ("* FROM wfx_mt4_fetch('$other')",
	"wfx_mt4_test_connection('4712', 'token-1', '" . $test->provider->endpoint . "')")
{
	$test->sql(qq{CREATE OR REPLACE FUNCTION nested() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS \$f\$
		BEGIN PERFORM $call; RETURN NEW; END \$f\$});
	like($test->sync($id)->{error}, qr/55000 wfx_mt4_\w+\(\) cannot be called from a trigger/, $call =~ s/\(.*//r);
}

# What needs no provider may be called, also where it makes the outer plan invalid.
$test->sql(qq{CREATE OR REPLACE FUNCTION nested() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS \$f\$
	BEGIN
	  GRANT SELECT ON performance_data, mt4_integrations TO PUBLIC;
	  PERFORM wfx_mt4_status(), wfx_mt4_request_sync('$other'), wfx_mt4_leaderboard();
	  RETURN NEW;
	END \$f\$});
my $session = $test->session;
foreach my $round (1 .. 5)
{
	my $output = $session->query("SELECT wfx_mt4_sync('$id') ->> 'success'");
	$test->sql('ANALYZE performance_data; ANALYZE mt4_integrations');
	is($output, 'true', "a trigger may ask for a sync, and change what the outer statement reads, $round");
}
$session->quit;
unlike(slurp_file($node->logfile), qr/terminated by signal/, 'and nothing breaks');
$test->stop;
done_testing();
