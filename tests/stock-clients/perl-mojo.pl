# Perl Mojo::UserAgent: keeps the cookie by itself, reads on, comes back after every end but three.
use Mojo::Base -strict;
use Mojo::IOLoop;
use Mojo::UserAgent;

my ($url, $count) = @ARGV;
my $agent = Mojo::UserAgent->new;
my $asked;
$| = 1;

sub again { Mojo::IOLoop->timer(0.02 => \&open_socket) }

sub open_socket {
  $agent->websocket($url => sub {
    my ($agent, $tx) = @_;
    return again() unless $tx->is_websocket;
    $tx->on(message => sub { say $_[1] });
    $tx->on(finish => sub {
      my ($tx, $code) = @_;
      again() unless grep { ($code // 0) == $_ } 1000, 4100, 4101;
    });
    $tx->send("emit $count 100") unless $asked++;
  });
}

open_socket();
Mojo::IOLoop->start;
