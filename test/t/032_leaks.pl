# After 200 interrupted syncs a backend has no file descriptor, thread or
# memory more than before, and still synchronises.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $session = $test->session;
my $pid = WfxTest::pid_of($session);

# Returns the memory that the backend holds, in kB, without that of the
# server's shared buffers.
sub memory
{
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB$/m
	  or die 'no memory size';
	return $kb;
}

# Cancels that many syncs by their time limit, some by an exception that is
# caught in a subtransaction.
sub interrupt_syncs
{
	my ($count) = @_;

	$session->query("SET statement_timeout = '20ms'");
	foreach (1 .. $count)
	{
		WfxTest::send_query($session, 'SELECT wfx_mt4_sync_all()');
		my (undef, $state) = WfxTest::finish_query($session);
		die "SQLSTATE $state" if $state ne '57014';
	}
	$session->query('RESET statement_timeout');
	$session->{stderr} = '';
	return;
}

$test->link_many(20, "n || '~hang'");
interrupt_syncs(20);
my $files = WfxTest::count_files("/proc/$pid/fd");
my $threads = WfxTest::count_files("/proc/$pid/task");
my $memory = memory();
interrupt_syncs(200);

cmp_ok($test->provider->stats->{requests}, '>', 2000 / WfxTest::limit(1), 'requests were sent');
is(WfxTest::count_files("/proc/$pid/fd"), $files, 'file descriptors');
is(WfxTest::count_files("/proc/$pid/task"), $threads, 'threads');
cmp_ok(memory() - $memory, '<', 3 * 1024 * WfxTest::limit(1), 'kB of memory');

$test->sql(
	"UPDATE mt4_integrations SET mt4_account_id = 'n', mt4_api_token = 'token-1'"
);
is( WfxTest::literal(
		$session->query_safe('SELECT wfx_mt4_sync_all() ->> $$synced$$')),
	"'20'",
	'the same backend still synchronises');
is( $test->sql('SELECT count(*) FROM pg_locks WHERE locktype = $$advisory$$'),
	0, 'no claim is left');

$session->quit;
$test->stop;
done_testing();
