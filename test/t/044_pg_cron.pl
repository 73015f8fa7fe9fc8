# pg_cron, as the README sets it up, really calls wfx_mt4_run_due().
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use WfxTest;

# make test installs it; a server that was built by hand need not have it.
my $directory = `pg_config --pkglibdir`;
chomp $directory;
plan skip_all => 'the server has no pg_cron' unless -e "$directory/pg_cron.so";

my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'pg_cron'
cron.use_background_workers = on
wfx_mt4.poll_interval = '1h'
});

$test->sql('CREATE EXTENSION pg_cron');
my @ids = map { $test->link($_) } 1 .. 3;
my $inactive = $test->link('4');
$test->sql("UPDATE mt4_integrations SET is_active = false WHERE id = '$inactive'");

# Seconds are understood since 1.5; before that a minute is the shortest.
my $schedule = $test->sql(q{SELECT extversion >= '1.5' FROM pg_extension WHERE extname = 'pg_cron'}) eq 't' ?
  '2 seconds' : '* * * * *';
is($test->integration($_)->{sync_status}, 'pending', 'nothing happens by itself') foreach $ids[0];
$test->sql("SELECT cron.schedule_in_database('wfx_mt4', '$schedule', 'CALL wfx_mt4_run_due()', 'postgres')");
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'}) == 3 },
	'pg_cron');
pass('pg_cron has what is due synchronised');
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM cron.job_run_details WHERE status NOT IN ('starting', 'running')}) > 0 },
	'the end of the run');
is($test->sql(q{SELECT DISTINCT status FROM cron.job_run_details WHERE status NOT IN ('starting', 'running')}),
	'succeeded', 'and says that it went well');
is($test->history($ids[0])->{sync_type}, 'automatic', 'it is automatic');
is($test->integration($inactive)->{sync_status}, 'pending', 'and leaves out what is inactive');
$test->stop;
done_testing();
