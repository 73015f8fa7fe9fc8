# A caller whose statements are cut soon asks for a sync and sees when
# it is done, as docs/supabase.md says.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Supabase;
use Test::More;

my $stack = Supabase->start(worker => 1, conf => "wfx_mt4.poll_interval = '1h'");
my $slow = $stack->link('1~balance-1100~delay-1500', name => 'Ada');
my $quick = $stack->link('2~balance-1200', name => 'Ben');

# The first syncs, by the worker's schedule.
WfxTest::wait_until(sub { $stack->rpc('organiser', 'wfx_mt4_summary')->{json}[0]{fresh} == 2 }, 'the first syncs');
$stack->sql(q{CREATE FUNCTION public.my_timeout() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('statement_timeout') $$});
$stack->reload(sub { $stack->rpc('anon', 'my_timeout')->{status} == 200 });
is_deeply([ map { $stack->rpc($_, 'my_timeout')->{json} } qw(anon authenticated organiser service_role) ],
	[qw(3s 8s 8s 8s)], 'who has no limit of his own has that of authenticator');
$stack->sql(q{ALTER ROLE organiser SET statement_timeout = '1s'});
$stack->reload(sub { $stack->rpc('organiser', 'my_timeout')->{content} eq '"1s"' });

# The latest sync of an integration that people asked for.
sub latest
{
	my ($id) = @_;
	my $rows = $stack->rpc('organiser', 'wfx_mt4_recent_syncs', { integration_id => $id, limit_count => 1 })->{json};
	return $rows->[0];
}

my $before = latest($slow);
is($before->{sync_type}, 'automatic', 'so far it was the schedule');
my $answer = $stack->rpc('organiser', 'wfx_mt4_sync', { integration_id => $slow });
is_deeply([ $answer->{status}, $answer->{json}{code} ], [ 500, '57014' ], 'a sync in the session is cut');
is(latest($slow)->{id}, $before->{id}, 'and leaves nothing');

$answer = $stack->rpc('organiser', 'wfx_mt4_request_sync', { integration_id => $slow });
is($answer->{status}, 202, 'a request is accepted');
is($answer->{json}, 1, 'for one');
my $done = WfxTest::wait_until(sub { my $row = latest($slow); $row->{id} ne $before->{id} && $row }, 'the sync');
is_deeply([ @{$done}{qw(sync_type status)} ], [ 'manual', 'success' ], 'and done when the history has another row');

# Of all: those that were tried since.
my $since = $stack->rpc('organiser', 'wfx_mt4_status')->{json};
my %tried = map { $_->{id} => $_->{last_attempt} } @$since;
$answer = $stack->rpc('organiser', 'wfx_mt4_request_sync');
is_deeply([ @{$answer}{qw(status json)} ], [ 202, 2 ], 'all are asked for');
WfxTest::wait_until(
	sub {
		my $rows = $stack->rpc('organiser', 'wfx_mt4_status')->{json};
		return !grep { $_->{last_attempt} eq $tried{ $_->{id} } || $_->{sync_status} eq 'syncing' } @$rows;
	},
	'all to be done');
is($stack->rpc('organiser', 'wfx_mt4_summary')->{json}[0]{success}, 2, 'all are done');
is(latest($quick)->{sync_type}, 'manual', 'as asked');

$answer = $stack->rpc('organiser', 'wfx_mt4_request_sync', { integration_id => '00000000-0000-0000-0000-000000000000' });
is_deeply([ @{$answer}{qw(status json)} ], [ 404, 0 ], 'an unknown one is not found');

$stack->stop;
done_testing();
