/** The agent between a hostile dockerd and hostile servers: Docker gets what it can read, and an address that it was not
 *  given is released. */
import { createAgentApp } from '../../src/agent/agent-app.ts';
import { createForwarding } from '../../src/agent/forward.ts';
import type { Answer } from '../../src/agent/server-client.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { Log } from '../../src/domain/log.ts';
import { createInFlight } from '../../src/http/in-flight.ts';
import { Clock } from '../kit/clock.ts';
import type { Hostile } from './hostile.ts';
import { checkedAnswer, logInto, type Part, type Scene } from './part.ts';

const SERVERS = [
  { host: 'a.example.com', port: 443 },
  { host: 'b.example.com', port: 443 },
];
const BOUND_MS = 3_000;
const REST_MS = 3_600_000;
const OVERLONG = 1 << 20;
const REQUEST = '/IpamDriver.RequestAddress';
const RELEASE = '/IpamDriver.ReleaseAddress';
const POOL = { PoolID: 'eni-0a', Pool: '10.0.1.0/24', Data: { 'com.docker.network.gateway': '10.0.1.1/24' } };
const decoder = new TextDecoder();

/** What ends so is told to the operator. */
const GIVEN_UP = 'call given up';

class AgentTarget {
  readonly #app: ReturnType<typeof createAgentApp>;
  readonly #note: Scene['note'];
  readonly #clock = new Clock({ isFree: true });
  #hostile: Hostile | null = null;
  #given = 0;
  /** Addresses that servers have given, and that neither Docker was told nor a server that it is free. */
  readonly #open = new Set<string>();

  constructor({ note, wrong }: Scene) {
    this.#note = note;
    const broken = logInto(wrong);
    const log: Log = (level, message, fields) =>
      message === GIVEN_UP ? undefined : broken(level, message, fields);
    const clock = () => this.#clock.now;
    const newId = () => '00000000-0000-4000-8000-000000000000';
    const forwarding = createForwarding({
      servers: SERVERS,
      serverCa: null,
      identity: { current: async () => ({ agent: {} }) as never, refused: () => {} },
      send: async (_, call) => this.#serve(call.path, call.body),
      boundMs: BOUND_MS,
      clock,
      deadlineClock: clock,
      wait: this.#clock.wait,
      newId,
      log,
    });
    this.#app = createAgentApp({
      ...{ forwarding, boundMs: BOUND_MS, deadlineClock: clock, inFlight: createInFlight(), newId, log },
    });
  }

  /** What a server answers. */
  #serve(path: string, body: string): Answer {
    const hostile = this.#hostile as Hostile;
    const kind = hostile.below(100);
    if (kind < 6) throw new IpamError('unavailable', `no answer: ${hostile.text()}`);
    if (kind < 12) return { status: hostile.oneOf([403, 500, 302, 204, 0, 503]), text: this.#odd(hostile) };
    if (path === RELEASE) this.#open.delete(fieldIn(body, 'Address') ?? '');
    if (kind < 35) return { status: 200, text: this.#odd(hostile) };
    if (path !== REQUEST) return { status: 200, text: JSON.stringify(path === RELEASE ? {} : POOL) };
    if (fieldIn(body, 'PoolID') === null) return { status: 200, text: JSON.stringify({ Error: 'no pool' }) };
    const ip = [10, ++this.#given >> 16, this.#given >> 8, this.#given].map(part => part & 255).join('.');
    this.#open.add(ip);
    return { status: 200, text: JSON.stringify({ Address: `${ip}/24`, Data: {} }) };
  }

  #odd(hostile: Hostile): string {
    const valid = hostile.oneOf([POOL, {}, { Error: 'no' }, { Error: hostile.text() }]);
    return hostile.chance(0.001) ? ' '.repeat(OVERLONG) : decoder.decode(hostile.body(valid));
  }

  async input(hostile: Hostile): Promise<void> {
    this.#hostile = hostile;
    const method = hostile.oneOf(['RequestAddress', 'RequestAddress', 'ReleaseAddress', 'RequestPool', 'x']);
    const path = hostile.chance(0.01)
      ? `/${encodeURIComponent(hostile.oneOf(['\u001b[2J', '\u202e', 'x'.repeat(3000)]))}`
      : `/IpamDriver.${method}`;
    const hangUp = new AbortController();
    const isGone = hostile.chance(0.05);
    const body = hostile.body({ PoolID: 'eni-0a', Address: '10.0.1.7', Options: null });
    const request = new Request(`http://localhost${path}`, {
      method: 'POST',
      body: body as Uint8Array<ArrayBuffer>,
      headers: hostile.chance(0.7) ? { 'content-length': `${body.length}` } : {},
      signal: hangUp.signal,
    });
    const answered = this.#app.fetch(request);
    if (isGone) setImmediate(() => hangUp.abort());
    const answer = await answered;
    const told = checkedAnswer(await answer.text());
    if (answer.status !== 200 && answer.status !== 404) throw new Error(`status ${answer.status}`);
    this.#note(
      answer.status === 404 ? '404' : 'Error' in told ? 'refused' : 'Address' in told ? 'given' : 'done',
    );
    this.#open.delete(String(told.Address).replace(/\/24$/, ''));
  }

  rest = (): Promise<void> => this.#clock.wait(REST_MS);

  async end(): Promise<void> {
    await this.rest();
    if (this.#open.size > 0) throw new Error(`${[...this.#open]} were neither handed over nor released`);
  }
}

function fieldIn(body: string, name: string): string | null {
  try {
    const value: unknown = JSON.parse(body)[name];
    return typeof value === 'string' ? value : null;
  } catch {
    return null;
  }
}

export const AGENT: Part = {
  name: 'agent',
  share: 200,
  lanes: 1,
  open: async scene => new AgentTarget(scene),
};
