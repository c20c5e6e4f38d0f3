// Compiled against the packed types, as a user's components would be.
import { useCallback, useEffect, useState } from 'react';
import { ResumableSocket, type Status } from 'session-resume';
import { useResumableSocket, useSession } from 'session-resume/react';

export function Room({ room, signedIn }: { room: string; signedIn: boolean }) {
  const [lines, setLines] = useState<string[]>([]);
  const socket = useResumableSocket(`/rooms/${room}`, {
    enabled: signedIn,
    backoff: [1, 2, 4],
    headers: async () => ({ authorization: 'Bearer …' }),
    onMessage: ({ data }, from) => {
      setLines((before) => [...before, String(data)]);
      from.send('seen');
    },
    onSession: ({ queued }, from) => {
      from.queued = queued.slice(-10);
    },
    onStatus: (event) => event.status === 'gap' && console.log(event.gap.from),
    onClose: ({ code }) => console.log(code.toFixed()),
  });
  const { status, session, readyState, transport, lifetime } = useSession(socket);
  const now: Status | null = status;
  const say = useCallback((text: string) => socket?.send(text), [socket]);
  useEffect(() => {
    // The class itself, and the one of the other entry.
    const same: ResumableSocket | null = socket;
    console.log(same?.url);
    // @ts-expect-error: there may be none
    socket.send('');
  }, [socket]);
  return (
    <button disabled={readyState !== 1} onClick={() => say('hello')} title={`${session} ${transport} ${lifetime.toFixed()}`}>
      {now?.status} {lines.length}
    </button>
  );
}

export function Others() {
  const asked = useResumableSocket(async (attempt) => `/live?attempt=${attempt.toFixed()}`);
  // @ts-expect-error: no such option
  useResumableSocket('/live', { onMesage: () => {} });
  // @ts-expect-error: no URL
  useResumableSocket(7);
  return <Room key={useSession(asked).session} room="a" signedIn />;
}
