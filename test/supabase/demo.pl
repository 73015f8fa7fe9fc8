# Runs the stack for a person, with accounts whose numbers move; demo-web.sh calls this.
use strict;
use warnings;

# Before the modules of the tests send the output to their log.
my $screen;
BEGIN
{
	open($screen, '>&', \*STDOUT) or die "could not duplicate the output: $!";
	$screen->autoflush;
}

use Supabase;
use Test::More;

my $accounts = 60;

Test::More->builder->output(\*STDERR);

my $done = 0;
local $SIG{INT} = local $SIG{TERM} = sub { $done = 1; };

my $stack = Supabase->start(
	worker => 1,
	provider => [ '--drift', '3' ],
	conf => "wfx_mt4.poll_interval = '10s'\nwfx_mt4.snapshot_interval = '5s'\nwfx_mt4.retry_base = '20s'");
$stack->sql("SELECT set_config('search_path', 'public', false);
	INSERT INTO traders (full_name, email, is_approved, registered_at)
	SELECT first || ' ' || last, lower(first) || '\@example.com', true, now() - random() * interval '30 days'
	  FROM unnest('{Amara,Bence,Chiara,Daniel,Elif,Farid,Grace,Hiro,Ines,Jonas,Kavya,Luis}'::text[]) AS first,
	       unnest('{Okafor,Toth,Ricci,Cohen,Kaya}'::text[]) AS last");
$stack->sql("SELECT wfx_mt4_upload_credential('user' || n, 'secret', (50000 + n)::text, 'Example Broker', 'Example-Demo')
	FROM generate_series(1, $accounts + 3) AS n");
# of one the token is refused, one is not known to the provider, one is paused
$stack->sql("SELECT wfx_mt4_link(id, CASE account_number WHEN '50007' THEN '50007~status-401'
		  WHEN '50013' THEN '50013~status-404' ELSE account_number END, 'demo-token', '"
	  . $stack->provider->endpoint
	  . "', CASE WHEN account_number < '50030' THEN 'mt4' ELSE 'mt5' END)
	FROM trading_credentials ORDER BY account_number LIMIT $accounts");
$stack->sql('SELECT wfx_mt4_set_active(id, false) FROM wfx_mt4_status() LIMIT 1');

my $url = $stack->url;
print $screen <<"END";

The page as PostgREST serves it:  $url/rest/v1/rpc/wfx_mt4_console
The page from a static host:      $url/console.html
  there, the address is           $url/rest/v1

Tokens to sign in with:

END
print $screen "$_:\n@{[ $stack->jwt($_) ]}\n\n" foreach qw(service_role organiser authenticated);
print $screen "Ctrl-C ends it.\n";
# psql gets the Ctrl-C too
$stack->close_sessions;
sleep 1 until $done;
$stack->stop;
done_testing();
