/** Server-sent events. https://html.spec.whatwg.org/multipage/server-sent-events.html */
import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import { type Live, READERS_MAX } from '../../views/live/live.ts';
import { answerRefusal } from './admin-guard.ts';

/** The client takes each message when the one before is on its way, so that none wait here. */
export function eventStream(
  c: Context<{ Bindings: HttpBindings }>,
  live: Live,
  { after, subnet }: { after: string | null; subnet: string | null },
): Response {
  const headers = { 'content-type': 'text/event-stream', 'cache-control': 'no-store' };
  if (c.req.method === 'HEAD') return new Response(null, { headers });
  const drop = () => void c.env.incoming?.socket.destroy();
  const reader = live.open({ after, subnet, drop });
  if (reader === null)
    return answerRefusal(c, {
      status: 503,
      error: `${READERS_MAX} clients look already, or the server stops`,
      hint: 'close some of them, or try again',
    });
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const text = await reader.next();
        if (isCancelled) return;
        if (text === null) controller.close();
        else controller.enqueue(bytesOf(text));
      },
      cancel() {
        isCancelled = true;
        reader.end();
      },
    },
    { highWaterMark: 0 },
  );
  let isCancelled = false;
  return new Response(body, { headers });
}

const ENCODER = new TextEncoder();
let last = { text: '', bytes: new Uint8Array() };

/** Most readers get the same messages, which have up to 150 kB. */
function bytesOf(text: string): Uint8Array {
  if (text !== last.text) last = { text, bytes: ENCODER.encode(text) };
  return last.bytes;
}
