# Ruby faye-websocket: keeps the cookie of the 101, reads on, comes back after every end but three.
require "eventmachine"
require "faye/websocket"

$stdout.sync = true
url, count = ARGV
cookie = nil
asked = false

EM.run do
  open_socket = lambda do
    socket = Faye::WebSocket::Client.new(url, [], headers: cookie ? { "Cookie" => cookie } : {})
    socket.on(:open) do
      set = socket.headers["Set-Cookie"]
      cookie = set.split(";").first if set
      socket.send("emit #{count} 100") unless asked
      asked = true
    end
    socket.on(:message) { |event| puts event.data }
    socket.on(:close) do |event|
      EM.add_timer(0.02) { open_socket.call } unless [1000, 4100, 4101].include?(event.code)
    end
  end
  open_socket.call
end
