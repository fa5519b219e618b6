/** A captured sequence of Docker's requests, sent to this driver. transcripts.test.ts says how they are mapped. */
import { contains, fromNumber, parseCidr, parseIpv4, routerOf } from '../../src/domain/address.ts';
import { type EniId, parseEniId, parseSubnetId, type SubnetId } from '../../src/domain/ids.ts';
import { createDriver } from '../../src/http/driver.ts';
import { toldIn } from '../kit/failures.ts';
import { assert } from '../kit/uvu.ts';
import { type World, world } from '../kit/world.ts';

export interface Line {
  readonly engine: Engine;
  readonly scenario: string;
  readonly path: string;
  readonly body: string;
  readonly response?: string;
  readonly gone?: true;
}
export const ENGINES = [26, 28, 29] as const;
export type Engine = (typeof ENGINES)[number];
type Fields = Readonly<Record<string, unknown>>;
interface Answer {
  readonly status: number;
  readonly body: string;
}
/** How requests get to the driver. */
export interface Wire {
  readonly name: string;
  send(path: string, body: string): Promise<Answer>;
  /** A request whose sender does not live to read the answer; absent where that can't be timed. */
  abandon?(path: string, body: string): Promise<unknown>;
  open(app: ReturnType<typeof appOf>): Promise<void>;
  close(): Promise<void>;
}

const GATEWAY = 'com.docker.network.gateway';
const SETTLE_MS = 60_000;

/** The answers that are an error by design, and the engines in whose captures they occur. */
export const REFUSALS: [
  what: string,
  engines: readonly Engine[],
  error: RegExp,
  applies: (line: Line, asked: Fields, again: boolean) => boolean,
][] = [
  [
    'an empty body',
    [26, 28, 29],
    /^the request came without a body, .*; nothing was changed: do it again$/,
    ({ path, body }) => /Request(Pool|Address)$/.test(path) && body === '',
  ],
  ['an IPv6 pool', [26, 29], /^IPv6 is not served; leave out --ipv6$/, (_, { V6 }) => V6 === true],
  [
    'any /24',
    [28, 29],
    /^--subnet 0\.0\.0\.0\/24 is not the subnet of eni-\w+, which is (\S+); add --subnet \1 --gateway \S+$/,
    (_, { Pool }) => Pool === '0.0.0.0/24',
  ],
  [
    'the endless loop without --subnet',
    [26, 28, 29],
    /; add --subnet 10\.50\.0\.0\/24 --gateway 10\.50\.0\.1$/,
    (_, { Pool }, again) => Pool === '' && again,
  ],
  [
    'a gateway that is not the VPC router',
    [26],
    /^--gateway 10\.71\.0\.7 is not the VPC router of 10\.71\.0\.0\/24; use --gateway 10\.71\.0\.1$/,
    (_, asked) => isGateway(asked) && asked.Address === '10.71.0.7',
  ],
];

/** The answers that are always the same. */
const FIXED: Readonly<Record<string, Fields>> = {
  '/Plugin.Activate': { Implements: ['IpamDriver'] },
  '/IpamDriver.GetCapabilities': { RequiresMACAddress: false, RequiresRequestReplay: false },
  '/IpamDriver.GetDefaultAddressSpaces': {
    LocalDefaultAddressSpace: 'ec2-ipam',
    GlobalDefaultAddressSpace: 'ec2-ipam',
  },
  '/IpamDriver.ReleaseAddress': {},
  '/IpamDriver.ReleasePool': {},
};

const isGateway = ({ Options }: Fields): boolean =>
  (Options as Fields | null)?.RequestAddressType === GATEWAY;
const parsed = (text: string | undefined): Fields =>
  text === undefined || text === '' ? {} : JSON.parse(text);

/** One subnet of the captures, `theirs`, as it is in our VPC. */
interface Network {
  readonly theirs: string;
  readonly cidr: string;
  readonly subnet: SubnetId;
  readonly eni: EniId;
}
interface Held {
  readonly ip: string;
  readonly eni: EniId;
}

/** Replays the lines of one engine, and keeps its own account of who holds what. */
export class Replay {
  readonly world: World;
  readonly #networks: readonly Network[];
  /** The stand-in's PoolID to its network. */
  readonly #pools = new Map<string, Network>();
  /** The network's PoolID of ours, by its CIDR. */
  readonly #ours = new Map<string, string>();
  /** What containers hold, by the stand-in's address; `#lost`: by those whose releases were lost. */
  readonly #held = new Map<string, Held>();
  readonly #lost: [theirs: string, held: Held][] = [];
  readonly refused = new Set<string>();

  constructor(lines: readonly Line[]) {
    const answers = lines
      .filter(line => line.path.endsWith('RequestPool'))
      .map(line => parsed(line.response));
    const cidrs = new Set(answers.map(answer => String(answer.Pool)).filter(pool => pool.startsWith('10.')));
    // The /16 that the stand-in chose where no subnet was named is a /20: the memory store reads every row.
    this.#networks = [...cidrs].map((theirs, i) => ({
      theirs,
      cidr: theirs.replace('/16', '/20'),
      subnet: parseSubnetId(`subnet-0${i}`),
      eni: parseEniId(`eni-0${i}`),
    }));
    for (const { PoolID, Pool } of answers) {
      const network = this.#networks.find(({ theirs }) => theirs === Pool);
      if (network !== undefined) this.#pools.set(String(PoolID), network);
    }
    this.world = world({ vpc: vpcOf(this.#networks) });
  }

  /** All of one scenario, then what must be true after it. */
  async play(lines: readonly Line[], wire: Wire): Promise<void> {
    let withoutSubnet = false;
    for (const line of lines) {
      const asked = parsed(line.body);
      const refusal = REFUSALS.find(([, , , applies]) => applies(line, asked, withoutSubnet));
      if (line.path.endsWith('RequestPool') && asked.Pool === '') withoutSubnet = true;
      const sent = line.body === '' ? '' : `${JSON.stringify(this.#translated(line, asked))}\n`;
      if (line.gone) {
        await wire.abandon?.(line.path, sent);
        continue;
      }
      const { status, body } = await wire.send(line.path, sent);
      assert.is(status, 200);
      const answer = parsed(body);
      if (refusal === undefined) {
        assert.is(answer.Error, undefined, `${line.body} → ${body}`);
        this.#judge(line, asked, answer);
      } else {
        const [what, , error] = refusal;
        assert.match(toldIn(answer), error, `${what}: ${line.body} → ${body}`);
        this.refused.add(what);
      }
    }
    await this.#compare();
    this.world.time.now += SETTLE_MS;
  }

  /** What is held at the end, as the stand-in called it. */
  leftovers(): string[] {
    return [...this.#held.keys(), ...this.#lost.map(([theirs]) => theirs)].sort();
  }

  #translated(line: Line, asked: Fields): Fields {
    if (line.path.endsWith('RequestPool')) {
      const { eni } = this.#networkOf(parsed(line.response).PoolID) ?? this.#networks[0] ?? {};
      return { ...asked, Options: { ...(asked.Options as Fields | null), 'eni-id': eni } };
    }
    const network = this.#networkOf(asked.PoolID);
    const PoolID = this.#ours.get(network?.cidr ?? '');
    if (!line.path.endsWith('ReleaseAddress')) return { ...asked, PoolID };
    return { ...asked, PoolID, Address: this.#held.get(String(asked.Address))?.ip ?? asked.Address };
  }

  /** A PoolID whose RequestPool was a replay, and left out, still ends in its CIDR. */
  #networkOf(poolId: unknown): Network | undefined {
    const id = String(poolId);
    return this.#pools.get(id) ?? this.#networks.find(({ theirs }) => id.endsWith(`-${theirs}`));
  }

  #judge(line: Line, asked: Fields, answer: Fields): void {
    const expected = FIXED[line.path];
    if (expected !== undefined) assert.equal(answer, expected);
    else if (line.path.endsWith('RequestPool')) this.#judgePool(line, asked, answer);
    else this.#judgeAddress(line, asked, answer);
    if (line.path.endsWith('ReleaseAddress')) this.#held.delete(String(asked.Address));
  }

  #judgePool(line: Line, asked: Fields, answer: Fields): void {
    const network = this.#networkOf(parsed(line.response).PoolID);
    if (network === undefined) throw new Error(`no network for ${line.body}`);
    assert.ok(answer.PoolID);
    assert.is(answer.Pool, asked.Pool === '' ? network.cidr : asked.Pool);
    const cidr = parseCidr(network.cidr);
    assert.is((answer.Data as Fields)[GATEWAY], `${routerOf(cidr)}/${cidr.maskLength}`);
    this.#ours.set(network.cidr, String(answer.PoolID));
  }

  #judgeAddress(line: Line, asked: Fields, answer: Fields): void {
    const network = this.#networkOf(asked.PoolID);
    if (network === undefined) throw new Error(`no network for ${line.body}`);
    const cidr = parseCidr(network.cidr);
    const [ip = '', length] = String(answer.Address).split('/');
    assert.ok(contains(cidr, parseIpv4(ip)), `${answer.Address} is outside ${network.cidr}`);
    assert.is(Number(length), cidr.maskLength);
    if (asked.Address !== '') assert.is(ip, asked.Address);
    if (isGateway(asked)) {
      assert.is(ip, routerOf(cidr));
      return;
    }
    const [theirs = ''] = String(parsed(line.response).Address).split('/');
    const before = this.#held.get(theirs);
    if (before !== undefined) this.#lost.push([theirs, before]);
    this.#held.set(theirs, { ip, eni: network.eni });
  }

  /** The ledger's holders are those of our account, each once, and each address is on its ENI. */
  async #compare(): Promise<void> {
    const account = [...this.#held.values(), ...this.#lost.map(([, held]) => held)];
    const lines = account.map(({ ip, eni }) => `${ip} ${eni}`).sort();
    assert.is(new Set(lines).size, lines.length, `held twice: ${lines}`);
    const readings = await Promise.all(
      this.#networks.map(({ subnet }) => this.world.store.withStatus(subnet, ['allocated'])),
    );
    assert.equal(readings.flatMap(({ rows }) => rows.map(row => `${row.ip} ${row.iface}`)).sort(), lines);
    for (const { ip, eni } of account)
      assert.ok(
        this.world.vpc.network.eni(eni).secondaries.some(one => one === ip),
        `${ip} is not on ${eni}`,
      );
  }
}

/** Limits are no part of the captures: an instance type with many addresses on many ENIs. */
function vpcOf(networks: readonly Network[]) {
  return {
    instanceTypes: { 'roomy.metal': { enis: 50, addressesPerEni: 200 } },
    instances: [{ id: 'i-01', type: 'roomy.metal' }],
    subnets: networks.map(({ subnet, cidr }) => ({ id: subnet, cidr })),
    enis: networks.map(({ subnet, eni, cidr }, i) => ({
      id: eni,
      subnet,
      primary: fromNumber(parseCidr(cidr).last - 1), // named by no request
      attachment: { instance: 'i-01', deviceIndex: i + 1 },
    })),
  };
}

export const appOf = (w: World) =>
  createDriver({ pools: w.pools, allocator: w.allocator, opened: async () => {} }, w.context.log);
