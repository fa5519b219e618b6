/** The driver, from clients that prove who they are and from others: nobody gets what another holds, and nothing is
 *  lost, whatever comes between. */

import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { Log, LogLevel } from '../../src/domain/log.ts';
import { createDriver } from '../../src/http/driver.ts';
import { noteUnixPeer, REQUEST_ID, SENT_MS_AGO } from '../../src/http/identity.ts';
import { ENI_A, ENI_B, ROOMY, SUBNET, withEnis } from '../kit/vpcs.ts';
import { type World, world } from '../kit/world.ts';
import { socketsOf } from './clients.ts';
import type { Hostile } from './hostile.ts';
import { Model } from './model.ts';
import { checkedAnswer, logInto, type Part, type Scene } from './part.ts';

const HOSTS = ['i-0a', 'i-0b'];
/** Three ENIs with room for 49 containers each, of two hosts. */
const VPC = {
  ...withEnis(ROOMY, {
    id: 'eni-0c',
    primary: '10.0.1.6',
    attachment: { instance: 'i-0a', deviceIndex: 2 },
  }),
  instances: HOSTS.map(id => ({ id, type: 'm5.24xlarge' })),
};
const ENIS = [ENI_A, ENI_B, 'eni-0c'];
const TRANSCRIPTS: readonly { readonly path: string; readonly body: string }[] = readFileSync(
  new URL('../http/transcripts.jsonl', import.meta.url),
  'utf8',
)
  .trim()
  .split('\n')
  .map(line => JSON.parse(line));
const GATEWAY = 'com.docker.network.gateway';
const STEP_MS = 200;
const REST_MS = 600_000;
/** Ids that calls are repeated with. */
const IDS_KEPT = 50;

interface Client {
  readonly socket: object;
  /** Whether ids count that it sends. */
  readonly hasIds: boolean;
}

function clients(): readonly Client[] {
  const unix = {};
  noteUnixPeer(unix as Socket);
  const [a, b] = HOSTS.map(id => `URI:ec2-ipam://instance/${id}`) as [string, string];
  const sockets = [unix, unix, unix, ...socketsOf(a, a, b, 'URI:ec2-ipam://instance/i-0f', null)];
  return [
    { socket: { remoteAddress: '127.0.0.1' }, hasIds: false },
    ...sockets.map(socket => ({ socket, hasIds: true })),
  ];
}

interface Asked {
  readonly path: string;
  readonly body: unknown;
}
const decoder = new TextDecoder();

class DriverTarget {
  readonly #world: World = world({ vpc: VPC });
  readonly #model = new Model();
  readonly #clients = clients();
  readonly #app: ReturnType<typeof createDriver>;
  readonly #log: Log;
  readonly #note: Scene['note'];
  #ids: string[] = [];

  constructor({ note, wrong }: Scene) {
    const { pools, allocator } = this.#world;
    this.#log = logInto(wrong);
    this.#note = note;
    this.#app = createDriver({ pools, allocator, opened: async () => {} }, this.#log);
  }

  async input(hostile: Hostile): Promise<void> {
    const { path, body: valid } = this.#asked(hostile);
    const body = hostile.body(valid);
    const text = decoder.decode(body);
    const client = hostile.oneOf(this.#clients);
    const headers = this.#headers(hostile, client);
    const hangUp = new AbortController();
    const isSilent = hostile.chance(0.05);
    if (isSilent) void afterTurns(hostile.below(6)).then(() => hangUp.abort());
    this.#world.time.now += STEP_MS;
    for (const { level, message, fields } of this.#world.lines.splice(0))
      this.#log(level as LogLevel, message, fields);
    const method = hostile.chance(0.99)
      ? 'POST'
      : hostile.oneOf(['GET', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']);
    const length = hostile.chance(0.7) ? { 'content-length': `${body.length}` } : {};
    const request = new Request(`http://localhost${path}`, {
      method,
      headers: length,
      ...(isSilent ? { signal: hangUp.signal } : {}),
      ...(method === 'GET' ? {} : { body: body as Uint8Array<ArrayBuffer> }),
    });
    const asked = parsed(text);
    const id = client.hasIds ? (headers[REQUEST_ID] ?? null) : null;
    const sent = this.#model.begin();
    const release = path === '/IpamDriver.ReleaseAddress' ? this.#releasing(asked, id) : null;
    const incoming = { socket: client.socket, headers };
    const answer = await this.#app.fetch(request, { incoming } as never);
    const told = checkedAnswer(await answer.text());
    if (answer.status !== 200 && answer.status !== 404)
      throw new Error(`status ${answer.status} for ${text}`);
    this.#note(kindOf(answer.status, told));
    if (release !== null) this.#model.released(release, told.Error === undefined && answer.status === 200);
    if (path === '/IpamDriver.RequestAddress' && typeof told.Address === 'string' && !isGateway(asked))
      this.#model.given(sent, eniOf(asked), told.Address.replace(/\/24$/, ''), id);
  }

  #releasing(asked: Fields, id: string | null) {
    const { Address: ip } = asked;
    return typeof ip === 'string' && isOurs(ip) && ENIS.includes(eniOf(asked))
      ? this.#model.releasing(eniOf(asked), ip, id === null)
      : null;
  }

  #asked(hostile: Hostile): Asked {
    const eni = hostile.oneOf(ENIS);
    const kind = hostile.below(100);
    const call = (method: string, body: object): Asked => ({ path: `/IpamDriver.${method}`, body });
    if (kind < 35) {
      const named = hostile.chance(0.15) ? `10.0.1.${hostile.below(256)}` : '';
      const name = { 'com.docker.network.endpoint.name': hostile.chance(0.5) ? 'web' : hostile.text() };
      const Options = hostile.oneOf([null, {}, name, name]);
      const PoolID = hostile.chance(0.9) ? eni : `${eni};range=10.0.1.128/25`;
      return call('RequestAddress', { PoolID, Address: named, Options });
    }
    if (kind < 70) {
      const [ip, on] = this.#model.any(hostile.below) ?? ['10.0.1.7', eni];
      return call('ReleaseAddress', { PoolID: hostile.chance(0.9) ? on : eni, Address: ip });
    }
    if (kind < 72) return call('ReleaseAddress', { PoolID: eni, Address: `10.0.1.${hostile.below(256)}` });
    if (kind < 75)
      return call('RequestAddress', { PoolID: eni, Address: '', Options: { RequestAddressType: GATEWAY } });
    if (kind < 83) return call('RequestPool', poolOf(hostile, eni));
    if (kind < 85) return call('ReleasePool', { PoolID: eni });
    if (kind < 87)
      return { path: hostile.oneOf(['/Plugin.Activate', '/IpamDriver.GetCapabilities']), body: '' };
    if (kind < 88) return { path: `/${encodeURIComponent(clean(hostile.text()))}`, body: hostile.value() };
    const { path, body } = hostile.oneOf(TRANSCRIPTS);
    const own = body
      .replace(/pool-\d+-[\d./]+|POOLX/g, eni)
      .replace(/"Options":\{\}/, `"Options":{"eni-id":"${eni}"}`);
    return { path, body: parsed(own) };
  }

  #headers(hostile: Hostile, { hasIds }: Client): Record<string, string> {
    if (hostile.chance(hasIds ? 0.7 : 0.95)) return {};
    if (hostile.chance(0.1)) return { [REQUEST_ID]: hostile.text(), [SENT_MS_AGO]: hostile.text() };
    const fresh = uuid(hostile);
    const id = hostile.chance(0.3) ? hostile.oneOf([fresh, ...this.#ids]) : fresh;
    this.#ids = [...this.#ids, fresh].slice(-IDS_KEPT);
    const age = hostile.chance(0.8)
      ? '0'
      : hostile.oneOf(['1', '5000', '130000', '999999999', '1e3', '-1', '']);
    return { [REQUEST_ID]: id, [SENT_MS_AGO]: age };
  }

  rest = (): Promise<void> => this.#world.time.wait(REST_MS);

  async end(): Promise<void> {
    const { warm, store } = this.#world;
    await warm.stop();
    await this.rest();
    const { rows } = await store.withStatus(SUBNET, ['allocated']);
    const complaints = this.#model.complaints(new Map(rows.map(row => [row.ip, row.iface])));
    if (complaints.length > 0) throw new Error(complaints.join('\n'));
  }
}

/** A hang-up may come at any step of a request. */
async function afterTurns(turns: number): Promise<void> {
  for (let i = 0; i < turns; i++) await turn();
}

type Fields = Readonly<Record<string, unknown>>;
function parsed(text: string): Fields {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
const eniOf = ({ PoolID }: Fields): string =>
  typeof PoolID === 'string' ? (PoolID.split(';')[0] ?? '') : '';
const isOurs = (ip: string): boolean => /^10\.0\.1\.\d{1,3}$/.test(ip);
const isGateway = ({ Options }: Fields): boolean => Object(Options ?? {}).RequestAddressType === GATEWAY;
/** A path has no half of a surrogate pair. */
const clean = (text: string): string => text.replace(/\p{Cs}/gu, '');

const poolOf = (hostile: Hostile, eni: string): object => ({
  AddressSpace: 'ec2-ipam',
  Pool: hostile.oneOf(['10.0.1.0/24', '10.0.1.0/24', '', '10.0.0.0/16']),
  SubPool: hostile.oneOf(['', '10.0.1.128/25', '10.0.2.0/25']),
  Options: { 'eni-id': eni, ...(hostile.chance(0.5) ? { 'instance-id': hostile.oneOf(HOSTS) } : {}) },
  V6: hostile.chance(0.05),
});

const hex = (hostile: Hostile, digits: number): string =>
  Array.from({ length: digits }, () => hostile.below(16).toString(16)).join('');
const uuid = (hostile: Hostile): string => [8, 4, 4, 4, 12].map(digits => hex(hostile, digits)).join('-');

function kindOf(status: number, told: Fields): string {
  if (status !== 200) return `status ${status}`;
  if (typeof told.Error !== 'string') return 'Address' in told ? 'given' : 'done';
  return told.Error.replace(/".*"|[0-9a-f.-]*\d[\w./-]*/g, '…').slice(0, 50);
}

export const DRIVER: Part = {
  name: 'driver',
  share: 400,
  lanes: 16,
  open: async scene => new DriverTarget(scene),
};
