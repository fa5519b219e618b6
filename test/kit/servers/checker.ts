/** Clients that run containers as dockerd would, and know who holds what: the server's word is not taken for it. */
import { Agent, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { range } from '../rows.ts';
import { pause } from '../wait.ts';
import { dockerds } from './raw-http.ts';

/** dockerd has no limit of its own; the longest wait of any request in these tests is below this. */
const ANSWER_DEADLINE_MS = 150_000;
const PAUSE_MAX_MS = 15;
/** Containers of one client. */
const KEPT_MAX = 6;
/** Between two tries to reach a server that is not there. */
const KNOCK_AGAIN_MS = 50;
const KNOCK_MAX_MS = 15_000;
/** In an answer these would be a statement or a stack. */
const INSIDES = /\b(select|update|insert|delete from)\b.*`|\n|\.m?[jt]s:\d+|node:internal/i;

const agent = new Agent({ keepAlive: false });

/** One, or several behind which there is one ledger. */
type Servers = string | readonly string[];

export type Answer =
  | { readonly kind: 'answered'; readonly address: string }
  /** An error of the server's: what was asked was not done. */
  | { readonly kind: 'refused'; readonly error: string }
  /** There was no connection: the server never heard of it. */
  | { readonly kind: 'unsent' }
  /** The connection broke before the answer: nobody can know. */
  | { readonly kind: 'broken' };

/** One call of Docker's protocol, on a connection of its own. */
export function call(server: string, method: string, body: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const url = `${server}/${method}`;
    const sent = request(url, { method: 'POST', agent, timeout: ANSWER_DEADLINE_MS }, response => {
      let text = '';
      response.setEncoding('utf8').on('data', chunk => {
        text += chunk;
      });
      response.on('error', () => resolve({ kind: 'broken' }));
      response.on('end', () => {
        if (response.statusCode !== 200) return reject(new Error(`${url}: ${response.statusCode} ${text}`));
        const { Error: error, Address = '' } = JSON.parse(text);
        resolve(error === undefined ? { kind: 'answered', address: Address } : { kind: 'refused', error });
      });
    });
    sent.on('timeout', () => reject(new Error(`${url}: no answer within ${ANSWER_DEADLINE_MS} ms`)));
    sent.on('error', error => {
      resolve({ kind: (error as NodeJS.ErrnoException).code === 'ECONNREFUSED' ? 'unsent' : 'broken' });
    });
    sent.end(body === '' ? '' : `${JSON.stringify(body)}\n`);
  });
}

/** Asks for an address on a connection that nobody reads. */
export function askUnread(server: string, eni: string, Options: object | null = null): Socket {
  const { hostname, port } = new URL(server);
  const socket = connect(Number(port), hostname).on('error', () => {});
  const body = JSON.stringify({ PoolID: eni, Address: '', Options });
  socket.write(dockerds('/IpamDriver.RequestAddress', body));
  return socket;
}

/** A container; its name is what the ledger calls the holder. */
interface Container {
  readonly name: string;
  readonly eni: string;
}
export interface Held {
  readonly ip: string;
  readonly eni: string | null;
  readonly container: string | null;
}

export class Checker {
  /** Who holds what, by address: from the answer that gave it until its release was sent. */
  readonly live = new Map<string, Container>();
  /** Names of containers whose request ended without an answer. */
  readonly lostStarts = new Set<string>();
  /** Addresses whose release was not confirmed, with their former holders. */
  readonly lostStops = new Map<string, Container>();
  /** Whatever must never be. */
  readonly wrongs: string[] = [];
  readonly refusals = new Map<string, number>();
  readonly #kept: (readonly string[])[] = [];
  #starts = 0;
  #given = 0;
  #stops = 0;
  #unconfirmed = 0;
  readonly #longestMs = new Map<string, number>();
  #names = 0;

  /** One line to quote. */
  get figures(): string {
    const refused = [...this.refusals.values()].reduce((sum, count) => sum + count, 0);
    return (
      `${this.#starts} addresses asked for, ${this.#given} given, ${this.#stops} given up, ${refused} refused, ` +
      `${this.lostStarts.size} starts and ${this.#unconfirmed} stops not confirmed, ` +
      `longest wait ${(this.longestMs() / 1000).toFixed(1)} s`
    );
  }

  /** The longest wait for an answer of one server, or of any. */
  longestMs(server?: string): number {
    if (server !== undefined) return this.#longestMs.get(server) ?? 0;
    return Math.max(0, ...this.#longestMs.values());
  }

  /** As dockerd, it knocks again where nobody listens; with several servers, at any of them. */
  async #ask(servers: Servers, method: string, body: unknown): Promise<Answer> {
    for (const giveUpAt = performance.now() + KNOCK_MAX_MS; ; await pause(KNOCK_AGAIN_MS)) {
      const answer = await this.#askOne(oneOf([servers].flat()), method, body);
      if (answer.kind !== 'unsent' || performance.now() > giveUpAt) return answer;
    }
  }

  async #askOne(server: string, method: string, body: unknown): Promise<Answer> {
    const sentAt = performance.now();
    const answer = await call(server, method, body);
    this.#longestMs.set(server, Math.max(this.longestMs(server), performance.now() - sentAt));
    if (answer.kind === 'refused') {
      if (INSIDES.test(answer.error)) this.wrongs.push(`an error shows insides: ${answer.error}`);
      const kind = answer.error.replace(/\d+/g, 'N');
      this.refusals.set(kind, (this.refusals.get(kind) ?? 0) + 1);
    }
    return answer;
  }

  /** Asks for an address as a container's start does; returns the address, or null when there is none. */
  async start(servers: Servers, eni: string, named = ''): Promise<string | null> {
    const name = `c${++this.#names}`;
    this.#starts++;
    const Options = { 'com.docker.network.endpoint.name': name };
    const body = { PoolID: eni, Address: named, Options };
    const answer = await this.#ask(servers, 'IpamDriver.RequestAddress', body);
    if (answer.kind === 'broken') {
      this.lostStarts.add(name);
      await this.#askEmpty(servers, 'IpamDriver.RequestAddress');
    }
    if (answer.kind !== 'answered') return null;
    this.#given++;
    const ip = answer.address.replace(/\/\d+$/, '');
    const other = this.live.get(ip);
    if (other !== undefined)
      this.wrongs.push(`${ip} was given to ${name} on ${eni} while ${other.name} on ${other.eni} held it`);
    if (named !== '' && named !== ip) this.wrongs.push(`${name} asked for ${named} and was given ${ip}`);
    this.live.set(ip, { name, eni });
    this.lostStops.delete(ip);
    return ip;
  }

  /** The same by a client that never reads the answer; what this answers is its end. */
  startUnread(server: string, eni: string): () => void {
    const name = `c${++this.#names}`;
    this.#starts++;
    this.lostStarts.add(name);
    const socket = askUnread(server, eni, { 'com.docker.network.endpoint.name': name });
    return () => void socket.destroy();
  }

  /** Gives it up as a container's end does: it counts as given up from the moment of asking. */
  async stop(servers: Servers, ip: string): Promise<boolean> {
    const container = this.live.get(ip);
    if (container === undefined) {
      this.wrongs.push(`${ip} was given to two, and one of them has given it up already`);
      return false;
    }
    this.live.delete(ip);
    this.#stops++;
    const confirmed = await this.#release(servers, ip, container);
    if (!confirmed) this.#unconfirmed++;
    return confirmed;
  }

  async #release(servers: Servers, ip: string, container: Container): Promise<boolean> {
    const body = { PoolID: container.eni, Address: ip };
    const answer = await this.#ask(servers, 'IpamDriver.ReleaseAddress', body);
    if (answer.kind === 'answered') return true;
    // Meanwhile somebody else may have it, when the release was done after all.
    if (!this.live.has(ip)) this.lostStops.set(ip, container);
    if (answer.kind === 'broken') await this.#askEmpty(servers, 'IpamDriver.ReleaseAddress');
    return false;
  }

  /** dockerd repeats a request whose connection broke, with an empty body. */
  async #askEmpty(servers: Servers, method: string): Promise<void> {
    const answer = await call(oneOf([servers].flat()), method, '');
    if (answer.kind === 'answered') this.wrongs.push(`${method} with an empty body was answered as if done`);
  }

  /** Sends the releases again that were not confirmed; only while nobody starts anything. */
  async repeatStops(servers: Servers): Promise<void> {
    for (const [ip, container] of [...this.lostStops])
      if (await this.#release(servers, ip, container)) this.lostStops.delete(ip);
  }

  /** So many clients start and stop containers, each request at a server of its choice, until `until`. Each keeps
   *  a few, and begins with them the next time. A load that is given nothing is wrong: it has tested nothing. */
  async load(clients: number, servers: Servers, enis: readonly string[], until: Promise<unknown>) {
    const givenBefore = this.#given;
    let over = false;
    const end = () => {
      over = true;
    };
    until.then(end, end);
    const client = async (i: number) => {
      for (; !over; await pause(Math.random() * PAUSE_MAX_MS))
        this.#kept[i] = await this.#turn(servers, oneOf(enis), this.#kept[i] ?? []);
    };
    await Promise.all(range(clients).map(client));
    if (this.#given === givenBefore) this.wrongs.push(`${clients} clients were given no address`);
  }

  /** One thing that a client does: a start, a stop, or a restart that wants its address again. */
  async #turn(servers: Servers, eni: string, mine: readonly string[]): Promise<readonly string[]> {
    if (Math.random() > mine.length / KEPT_MAX) {
      const given = await this.start(servers, eni);
      if (given === null) await pause(KNOCK_AGAIN_MS);
      return given === null ? mine : [...mine, given];
    }
    const ip = oneOf(mine);
    const others = mine.filter(one => one !== ip);
    const container = this.live.get(ip);
    await this.stop(servers, ip);
    if (container === undefined || Math.random() < 0.7) return others;
    const again = await this.start(servers, container.eni, ip);
    return again === null ? others : [...others, again];
  }

  /** The addresses that the ledger calls held by containers that never heard of them. */
  adrift(held: readonly Held[]): string[] {
    return held.filter(({ ip }) => !this.live.has(ip) && !this.lostStops.has(ip)).map(({ ip }) => ip);
  }

  /** What is wrong with the holders that the ledger tells of, at rest. `suspects`: addresses that it lists as
   *  held by nobody, perhaps; null: it need not list them yet. */
  judge(held: readonly Held[], suspects: ReadonlySet<string> | null): string[] {
    const wrongs = [...this.wrongs];
    const byIp = new Map(held.map(one => [one.ip, one]));
    if (byIp.size < held.length) wrongs.push('the ledger lists an address twice');
    for (const [ip, { name, eni }] of this.live) {
      const row = byIp.get(ip);
      if (row?.container !== name || row.eni !== eni)
        wrongs.push(`${name} on ${eni} holds ${ip}, and the ledger says ${row?.container} on ${row?.eni}`);
    }
    for (const { ip, container } of held) {
      if (this.live.has(ip) || this.lostStops.get(ip)?.name === container) continue;
      if (!this.lostStarts.has(container ?? ''))
        wrongs.push(`${ip} is held by ${container}, which was told that it has nothing, or has given it up`);
      else if (suspects !== null && !suspects.has(ip))
        wrongs.push(`${ip} is held by ${container}, which never heard of it, and is no suspect`);
    }
    return wrongs;
  }
}

function oneOf(list: readonly string[]): string {
  const one = list[Math.floor(Math.random() * list.length)];
  if (one === undefined) throw new Error('none to choose from');
  return one;
}
