/** All views of a ledger, as the API and the pages ask for them. */
import { contains, covers, type Ipv4, parseCidr, parseIpv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import { parseEniId, parseSubnetId } from '../domain/ids.ts';
import type { LedgerSubnet, Store } from '../store/store.ts';
import { type AddressView, readAddress } from './address.ts';
import { type EniView, readEni } from './eni.ts';
import { type HealthView, readHealth } from './health.ts';
import { type HostsView, readHosts } from './hosts.ts';
import type { Recent } from './live/recent.ts';
import { type Overview, type Problem, readOverview } from './overview.ts';
import { createSubnetCounts, type SubnetCounts } from './parts/counts.ts';
import { createForecast } from './parts/forecast.ts';
import { kept } from './parts/kept.ts';
import { createMoments, type Moment } from './parts/moments.ts';
import { type DryPool, ofHolders, readDryPools } from './parts/problems.ts';
import { readSearch, type SearchView } from './search.ts';
import type { RestTimes } from './shapes.ts';
import { readSubnetMap, type SubnetMap } from './subnet-map.ts';

/** A view of the whole ledger is good for so long, so that pages do not load the store. */
const KEPT_MS = 1000;
/** What is asked of all rows costs the database more. */
const ROWS_KEPT_MS = 5000;

/** What views are made of. */
export interface Viewed {
  readonly store: Store;
  /** In milliseconds, but for the two numbers of addresses. */
  readonly policy: RestTimes & {
    readonly callDeadlineMs: number;
    readonly graceMs: number;
    readonly warmMin: number;
    readonly warmMax: number;
  };
  readonly recent: Recent;
  readonly server: { readonly id: string; readonly version: string; readonly runtime: string };
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** The id of the last live event. From now on for a while what moves is kept for who goes on after it. */
  readonly lastEvent: () => string;
}

/** What readers of views share. */
export interface Sources extends Viewed {
  /** The moment now. */
  readonly moment: () => Moment;
  readonly counts: SubnetCounts;
  readonly subnets: () => Promise<readonly LedgerSubnet[]>;
  /** What is wrong with holders. */
  readonly holders: () => Promise<readonly Problem[]>;
  readonly dryPools: () => Promise<readonly DryPool[]>;
  readonly forecast: ReturnType<typeof createForecast>;
}

/** Each throws store-down while the ledger is away, and bad-request for what is no id or address. Null: the ledger does
 *  not have it. */
export interface Views {
  overview(): Promise<Overview>;
  /** `block`: a part of the subnet, at most a /24, as `10.0.3.0/24`; null: all of it. */
  subnet(id: string, block: string | null): Promise<SubnetMap | null>;
  eni(id: string): Promise<EniView | null>;
  /** `subnet`: of which; null: the only one that has the address. */
  address(ip: string, subnet: string | null): Promise<AddressView | null>;
  hosts(): Promise<HostsView>;
  health(): Promise<HealthView>;
  search(query: string): Promise<SearchView>;
}

export function createViews(viewed: Viewed): Views {
  const { store, clock } = viewed;
  const moment = createMoments(viewed.lastEvent);
  const sources: Sources = {
    ...viewed,
    moment,
    counts: createSubnetCounts(store, clock, moment),
    subnets: kept(() => store.subnets(), KEPT_MS, clock),
    holders: kept(() => ofHolders(store), ROWS_KEPT_MS, clock),
    dryPools: kept(() => readDryPools(viewed), ROWS_KEPT_MS, clock),
    forecast: createForecast(store, clock),
  };
  const overview = kept(() => readOverview(sources), KEPT_MS, clock);
  const hosts = kept(() => readHosts(store), KEPT_MS, clock);
  const health = kept(() => readHealth(sources), KEPT_MS, clock);

  const subnetNamed = async (id: string): Promise<LedgerSubnet | null> => {
    const named = parseSubnetId(id, 'subnet');
    return (await sources.subnets()).find(one => one.id === named) ?? null;
  };

  async function subnetWith(ip: Ipv4): Promise<LedgerSubnet | null> {
    const [subnet, other] = (await sources.subnets()).filter(({ cidr }) => contains(cidr, ip));
    if (other !== undefined)
      throw new IpamError('bad-request', `${subnet?.id} and ${other.id} both have ${ip}`, {
        hint: `say which: add ?subnet=${other.id}`,
      });
    return subnet ?? null;
  }

  return {
    async overview() {
      viewed.lastEvent(); // what moves is kept for each reader, who goes on after the event before the reading
      return await overview();
    },
    async subnet(id, block) {
      const part = block === null ? null : parseCidr(block, 'block');
      const subnet = await subnetNamed(id);
      if (subnet === null) return null;
      if (part !== null && (part.maskLength < 24 || !covers(subnet.cidr, part)))
        throw new IpamError('bad-request', `block "${block}" is not a part of ${subnet.id}`, {
          hint: 'give at most a /24 of the subnet',
        });
      return await readSubnetMap(sources, subnet, part);
    },
    async eni(id) {
      const eni = await store.eni(parseEniId(id, 'ENI'));
      return eni === null ? null : await readEni(sources, eni);
    },
    async address(text, subnet) {
      const ip = parseIpv4(text);
      const home = subnet === null ? await subnetWith(ip) : await subnetNamed(subnet);
      return home === null ? null : await readAddress(sources, home, ip);
    },
    hosts,
    health,
    search: query => readSearch(sources, query),
  };
}
