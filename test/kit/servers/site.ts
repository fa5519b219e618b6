/** A server of the bundle, its ledger and its simulated EC2, for tests that break them and then compare all three. */
import type { Ledger, LedgerRow } from '../databases/ledgers.ts';
import { assert, suite } from '../uvu.ts';
import { pause, until } from '../wait.ts';
import { runBundle, type Simulator, startBundle, startSimulator } from './bundle.ts';
import { Checker, call, type Held } from './checker.ts';
import { freePort, type Program } from './process.ts';

export const SUBNET = 'subnet-0a1b2c3d4e5f60001';
const CIDR = '10.0.0.0/22';
export const INSTANCE = 'i-0a1b2c3d4e5f60001';
const ADDRESSES_PER_ENI = 30;
const REST_MAX_MS = 30_000;
/** How long the ledger needs to call a server dead that told nobody of its end, and a little more. */
const DEAD_MAX_MS = 45_000;
/** Each look is a process. */
const LOOK_AGAIN_MS = 3_000;

/** Short enough for tests, and late calls of the simulator are applied before the grace ends. No pool is kept
 *  warm, so that each step is one that the test asked for; nothing rests, so that what is given twice shows. */
export const TIMES = {
  EC2_IPAM_INTENT_GRACE: '1s',
  EC2_IPAM_CALL_DEADLINE: '500ms',
  EC2_IPAM_COOLDOWN: '0s',
  EC2_IPAM_QUARANTINE: '0s',
  EC2_IPAM_RECONCILE_EVERY: '1s',
  EC2_IPAM_WARM_MIN: '0',
  EC2_IPAM_WARM_MAX: '0',
  EC2_IPAM_EC2_SHARE: '100%',
};

export const eniName = (index: number): string => `eni-${(0xabc0000 + index).toString(16).padStart(17, '0')}`;

/** An instance with so many ENIs in one subnet of a thousand addresses. */
export const worldOf = (enis: number, addressesPerEni = ADDRESSES_PER_ENI) => ({
  subnets: [{ id: SUBNET, cidr: CIDR }],
  instanceTypes: { 'test.big': { enis, addressesPerEni } },
  instances: [{ id: INSTANCE, type: 'test.big' }],
  enis: Array.from({ length: enis }, (_, i) => ({
    id: eniName(i),
    subnet: SUBNET,
    primary: `10.0.0.${10 + i}`,
    attachment: { instance: INSTANCE, deviceIndex: i },
  })),
});

export class Site {
  readonly ledger: Ledger;
  readonly ec2: Simulator;
  /** The server's address, the same after each start. */
  readonly url: string;
  readonly checker: Checker;
  server: Program | null = null;
  readonly #env: Readonly<Record<string, string>>;
  readonly #first: Site | null;
  /** Servers that ask its EC2 too. */
  readonly #besides: Site[] = [];

  private constructor(ledger: Ledger, ec2: Simulator, url: string, more: object, first: Site | null) {
    this.ledger = ledger;
    this.ec2 = ec2;
    this.url = url;
    this.checker = first?.checker ?? new Checker();
    this.#env = { ...ec2.env, ...ledger.env, ...TIMES, ...more };
    this.#first = first;
    if (first !== null) first.#besides.push(this);
  }

  /** `more`: settings of its server and commands, as environment. */
  static async open(ledger: Ledger, enis: number, more: object = {}): Promise<Site> {
    return new Site(ledger, await startSimulator(worldOf(enis)), await freeUrl(), more, null);
  }
  /** Another server for the same EC2, on this ledger or another, which is closed with the first one. */
  async beside(more: object = {}, ledger = this.ledger): Promise<Site> {
    return new Site(ledger, this.ec2, await freeUrl(), more, this);
  }

  /** Resolves when the server has its ledger open. */
  async start(): Promise<void> {
    this.server = await startBundle(['serve', '--listen', this.url], this.#env, 'ledger opened');
  }

  /** A network on each ENI, as `docker network create` makes it: before that, an ENI gives no address. */
  async makeNetworks(enis: readonly string[]): Promise<void> {
    for (const eni of enis) {
      const body = { Pool: CIDR, Options: { 'eni-id': eni } };
      const answer = await call(this.url, 'IpamDriver.RequestPool', body);
      if (answer.kind !== 'answered') throw new Error(`no network on ${eni}: ${JSON.stringify(answer)}`);
    }
  }

  async kill9(): Promise<void> {
    await this.server?.kill9();
    this.server = null;
  }

  /** Runs a command that has to succeed; returns what it prints. */
  async run(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await runBundle(args, this.#env);
    if (code !== 0) throw new Error(`${args.join(' ')}: ${code} ${stderr}`);
    return stdout;
  }

  /** Starts a command, which a test wants to kill; resolves when it has said `ready`. */
  command(args: readonly string[], ready: RegExp): Promise<Program> {
    return startBundle(args, this.#env, ready);
  }

  async rowsOn(eni: string): Promise<LedgerRow[]> {
    return (await this.ledger.rows()).filter(row => row.iface === eni && row.status !== 'occupied');
  }

  /** Server alive or not, nothing is being asked of it any more: brings what is unfinished to its end and says
   *  what is wrong then. */
  async restAndCompare(enis: readonly string[], suspects: ReadonlySet<string> | null): Promise<string[]> {
    const deadline = performance.now() + REST_MAX_MS;
    let rows = await this.ledger.rows();
    while (rows.some(row => row.status.endsWith('ssigning')) && performance.now() < deadline) {
      await this.run('reconcile');
      rows = await this.ledger.rows();
    }
    const wrongs = rows
      .filter(row => row.status.endsWith('ssigning'))
      .map(row => `${row.ip} is ${row.status} after ${REST_MAX_MS} ms of rest`);
    for (const eni of enis) {
      const there = (await this.ec2.secondaries(eni)).sort();
      const known = rows.filter(row => row.iface === eni && row.status !== 'occupied').map(row => row.ip);
      if (there.join() !== known.sort().join())
        wrongs.push(`${eni} carries ${there.join()}, and the ledger says ${known.join()}`);
    }
    return [...wrongs, ...this.checker.judge(heldOf(rows), suspects)];
  }

  /** What `status` lists as held by nobody, perhaps; waits for these until dead servers count as dead. */
  async suspects(expected: readonly string[]): Promise<Set<string>> {
    let found = new Set<string>();
    await until(
      'suspects',
      async () => {
        const status = JSON.parse(await this.run('status', '--json'));
        found = new Set(status.suspects.map((one: { ip: string }) => one.ip));
        const all = expected.every(ip => found.has(ip));
        if (!all) await pause(LOOK_AGAIN_MS);
        return all;
      },
      DEAD_MAX_MS,
    );
    return found;
  }

  /** Clients at this server and those beside it while something happens, and for `aroundMs` before and after it; then,
   *  at rest, nothing is wrong. */
  async loadWhile(
    clients: number,
    enis: readonly string[],
    aroundMs: number,
    happening: () => Promise<void>,
  ) {
    const over = pause(aroundMs)
      .then(happening)
      .then(() => pause(aroundMs));
    const urls = [this, ...this.#besides].map(site => site.url);
    await this.checker.load(clients, urls, enis, over);
    await over;
    await this.checker.repeatStops(this.url);
    await pause(2000); // two rounds of the keepers, which roll back what nobody received
    assert.equal(await this.restAndCompare(enis, new Set()), []);
  }

  /** Ends its server; with the first site those beside it end too, and EC2. */
  async close(): Promise<void> {
    await Promise.all(this.#besides.map(site => site.close()));
    await this.server?.stop();
    this.server = null;
    if (this.#first === null) await this.ec2.stop();
  }
}

export const heldOf = (rows: readonly LedgerRow[]): Held[] =>
  rows
    .filter(row => row.status === 'allocated')
    .map(({ ip, iface, holder }) => ({ ip, eni: iface, container: holder }));

const freeUrl = async (): Promise<string> => `http://127.0.0.1:${await freePort()}`;

export interface OnSite<L extends Ledger> {
  ledger: L;
  site: Site;
}
/** A suite whose tests share a ledger, and a server that has networks on the ENIs; on `spare` more it has none. */
export function siteSuite<L extends Ledger>(
  name: string,
  openLedger: () => Promise<L> | L,
  enis: readonly string[],
  { spare = 0, more = {} } = {},
) {
  const test = suite<OnSite<L>>(name);
  test.before(async context => {
    context.ledger = await openLedger();
    context.site = await Site.open(context.ledger, enis.length + spare, more);
    await context.site.start();
    await context.site.makeNetworks(enis);
  });
  test.after(async ({ site, ledger }) => {
    await site?.close();
    await ledger?.close();
  });
  return test;
}
