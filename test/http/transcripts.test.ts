/*
 * Goal: what Docker Engines 26, 28 and 29 really send gets answers that they accept, and in the end the ledger
 * and the VPC hold what the containers hold, no more and no less.
 *
 * Method: transcripts.jsonl, one request a line in the order of its capture, is replayed to the whole machine on a
 * simulated VPC: called directly, and by raw requests over one connection to a unix socket.
 *
 * How it was selected. The requests were captured against a stand-in driver that gave `pool-N-CIDR` as PoolID and the
 * lowest free address. Left out is what says more about the stand-in than about Docker: its answers that were wrong
 * on purpose, its refusals, the connections it closed (but for the repetition with an empty body, which is dockerd's
 * own doing), its variants of discovery and TLS; the replays that dockerd sends at its start only to drivers which
 * say RequiresRequestReplay; and what follows from a pool that this driver refuses, as the endless loop without --subnet
 * after its third request. Bodies are verbatim. `response` is the stand-in's, kept where the mapping needs it; `gone`
 * marks the request of a dockerd that was killed meanwhile.
 *
 * How it is mapped. Each subnet of the captures is a subnet of the VPC with an ENI of its own, which is added to the
 * Options of RequestPool. A PoolID of any age becomes ours for that subnet. An address that the stand-in chose becomes
 * the one that we chose in its place, until it is released; one that was named stays as it is.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Listening, listen } from '../../src/http/listener/listen.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { bodyOf, type Connection, dockerds, open, statusOf } from '../kit/servers/raw-http.ts';
import { assert, suite } from '../kit/uvu.ts';
import { appOf, ENGINES, type Engine, type Line, REFUSALS, Replay, type Wire } from './replay.ts';

const LINES: readonly Line[] = readFileSync(new URL('transcripts.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map(line => JSON.parse(line));
/** What the captures themselves never give back: networks that outlived the capture, and containers whose releases
 *  were lost because the stand-in was away. A holder is never given up on suspicion, so these stay held. */
const NEVER_RELEASED: Readonly<Record<Engine, readonly string[]>> = {
  26: ['10.62.0.5', '10.62.0.6', '10.82.0.2', '10.82.0.2', '10.82.0.3', '10.82.0.4'],
  28: [],
  29: [],
};

function direct(): Wire {
  let app: ReturnType<typeof appOf>;
  const send = async (path: string, body: string, more: RequestInit = {}) =>
    app.request(path, { method: 'POST', body, ...more });
  return {
    name: 'called directly',
    async send(path, body) {
      const response = await send(path, body);
      return { status: response.status, body: await response.text() };
    },
    abandon: (path, body) => send(path, body, { signal: AbortSignal.abort() }),
    async open(opened) {
      app = opened;
    },
    async close() {},
  };
}

function overSocket(): Wire {
  let folder: string;
  let listening: Listening;
  let connection: Connection;
  return {
    name: 'over a unix socket',
    async send(path, body) {
      const response = await connection.exchange(dockerds(path, body));
      return { status: statusOf(response), body: bodyOf(response) };
    },
    async open(app) {
      folder = tempFolder();
      const path = join(folder, 'ec2-ipam.sock');
      listening = await listen(app, { kind: 'unix', path, mode: 0o600 });
      connection = await open({ path });
    },
    async close() {
      connection.close();
      await listening.close(1000);
      removeFolder(folder);
    },
  };
}

for (const wire of [direct(), overSocket()])
  for (const engine of ENGINES) {
    const lines = LINES.filter(line => line.engine === engine);
    const replay = new Replay(lines);
    const transcripts = suite(`engine ${engine}, ${wire.name}`);
    transcripts.before(() => wire.open(appOf(replay.world)));
    transcripts.after(() => wire.close());
    for (const scenario of new Set(lines.map(line => line.scenario)))
      transcripts(scenario, () =>
        replay.play(
          lines.filter(line => line.scenario === scenario),
          wire,
        ),
      );
    transcripts('in the end nothing is held but what the capture never gave back', () => {
      assert.equal(replay.leftovers(), NEVER_RELEASED[engine]);
    });
    transcripts('every kind of refusal has occurred', () => {
      const kinds = REFUSALS.filter(([, engines]) => engines.includes(engine)).map(([what]) => what);
      assert.equal([...replay.refused].sort(), kinds.sort());
    });
    transcripts.run();
  }
