# The administration page in a browser: every action, what it says where something fails,
# and how it looks.
use strict;
use warnings;

use FindBin;
use JSON::PP qw();
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Supabase;
use Test::More;

my $HOSTILE = q{<img src=x onerror="document.title='owned'">};
my $stack = Supabase->start(worker => 1);
my $provider = $stack->provider;

# What the page is served as is what lies in the repository.
my $page = slurp_file("$FindBin::RealBin/../../sql/wfx_mt4_console.html");
my $served = $stack->{client}->get(
	$stack->url . '/rest/v1/rpc/wfx_mt4_console',
	{ headers => { Accept => 'text/html' } });
is($served->{status}, 200, 'PostgREST serves the page to anybody');
like($served->{headers}{'content-type'}, qr{^text/html}, 'as HTML');
is($served->{content}, $page, 'and changes nothing of it');
unlike($page, qr/[^\t\n\x20-\x7e]/, 'it is plain ASCII, for a database of any encoding');
unlike($page, qr{(?:src|href)=["']?(?:https?:)?//}, 'and refers to nothing else');

# A dozen people.
$provider->control('PUT', 'answer/50009', { status => 500, body => JSON::PP->new->encode({ message => $HOSTILE }) });
$stack->link('50001', name => 'Amara Okafor');
$stack->link('50002', name => 'Bence Toth');
$stack->link('50003', name => $HOSTILE);
$stack->link('50004~balance-1234567890123.123456789', name => 'Exact Digits');
$stack->link('50008', name => 'Wrong Token', mt4_api_token => 'wrong');
$stack->link('50009', name => 'Hostile Provider');
$stack->link('50005', name => 'Chiara Ricci');
$stack->link('50006', name => 'Daniel Cohen');
$stack->link('50007~delay-1500', name => 'Elif Kaya');
$stack->sql(q{INSERT INTO traders (full_name, is_approved, registered_at)
	VALUES ('Nora Lind', true, '2026-01-01'), ('Otto Lang', true, '2026-01-02')});
$stack->sql(q{UPDATE trading_credentials c SET account_number = left(i.mt4_account_id, 5), broker = 'A Broker',
	account_username = 'user of ' || left(i.mt4_account_id, 5) FROM mt4_integrations i WHERE i.credential_id = c.id});
WfxTest::wait_until(
	sub { $stack->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status IN ('success', 'error')}) == 9 },
	'the first syncs');
$stack->sql(q{INSERT INTO account_snapshots (integration_id, trader_id, observed_at, balance, equity)
	SELECT i.id, p.trader_id, now() - n * interval '1 hour', 1000 + n, 1000 + n * n % 7
	  FROM performance_data p JOIN credential_assignments a USING (trader_id)
	       JOIN mt4_integrations i USING (credential_id), generate_series(1, 20) AS n});

my $shots = "$ENV{WORK}/log/console";
mkdir $shots;
local %ENV = (
	%ENV,
	SHOTS => $shots,
	SECOND => WfxTest::limit(1000),
	PROVIDER => $provider->endpoint,
	PGHOST => $stack->node->host,
	PGPORT => $stack->node->port,
	JWT_EXPIRED => $stack->jwt('service_role', exp => time - 3600));
my ($output, $errors, $status) = $stack->node_script("$FindBin::RealBin/../browser/console.js");
note $errors;
foreach (split /\n/, $output)
{
	my ($result, $name, $details) = /^(ok|not ok) ([^\t]*)\t?(.*)/ or next;

	ok($result eq 'ok', $name) or diag $details;
}
is($status, 0, 'the script ran') or diag $errors;
like($output, qr/^done$/m, 'to its end');

$stack->stop;
done_testing();
