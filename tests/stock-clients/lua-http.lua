-- Lua lua-http: keeps the cookie of the 101, reads on, comes back after every end but three.
local cqueues = require "cqueues"
local websocket = require "http.websocket"

local url, count = arg[1], arg[2]
local cookie, asked
io.stdout:setvbuf("line")

while true do
  local socket = websocket.new_from_uri(url)
  if cookie then socket.request.headers:upsert("cookie", cookie) end
  if socket:connect(5) then
    local set = socket.headers:get("set-cookie")
    if set then cookie = set:match("^[^;]*") end
    if not asked then
      asked = true
      socket:send("emit " .. count .. " 100")
    end
    while true do
      local text = socket:receive()
      if not text then break end
      print(text)
    end
    local code = socket.got_close_code
    socket:close()
    if code == 1000 or code == 4100 or code == 4101 then return end
  end
  cqueues.sleep(0.02)
end
