/** The command `tenant`: declares tenants and their quotas in the ledger. */
import { IpamError } from '../../domain/error.ts';
import { parseTenantName, QUOTA_MAX, TENANT_TAG, type Tenant } from '../../domain/tenant.ts';
import type { Store } from '../../store/store.ts';
import { command, JSON_OPTION } from '../command.ts';
import { STORE_SETTINGS } from '../settings/settings.ts';
import { text, wholeNumber } from '../settings/value-parsers.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { print, table } from '../terminal/output.ts';
import { TENANT_HEAD, tenantCells } from '../terminal/status-text.ts';

const USAGE = 'set NAME --quota N [--profile PROFILE], list, or remove NAME';

export const tenant = command({
  name: 'tenant',
  summary: 'declare tenants and how many addresses their ENIs may have',
  usage: 'set NAME | list | remove NAME',
  args: { min: 1, max: 2 },
  settings: STORE_SETTINGS,
  options: {
    quota: {
      kind: wholeNumber(0, QUOTA_MAX),
      fallback: null,
      help: 'with set: the most addresses that its ENIs may have together',
    },
    profile: {
      kind: text('PROFILE', 'the name of an instance profile'),
      fallback: null,
      help: 'with set: ENIs of instances with this instance profile are its ENIs too',
    },
    json: JSON_OPTION,
  },
  help: `An ENI belongs to the tenant that its EC2 tag ${TENANT_TAG} names, else to the one whose PROFILE its instance runs
with. To change a PROFILE, set another; to drop it, remove the tenant and set it anew. The ledger has the quota for all
servers, which read tag and profile when they read the ENI: at its first use, and when they compare its subnet with EC2. Ready and held
addresses count, and those of EC2 calls under way; the primary does not. A quota below what is used takes no address
away. An ENI without the tag, or whose tenant is not declared, has no quota.
`,
  async run({ args: [verb = '', ...names], options, config, log, io, assemble }) {
    const act = actionFor(verb, names, options);
    const { store } = await assemble(config, log);
    await namedSubnets(store, []);
    const said = await act(store);
    const all = await store.tenants();
    print(io.out, options.json, { tenants: all }, said ?? tenantTable(all));
    await store.close();
    return 0;
  },
});

interface Given {
  readonly quota: number | null;
  readonly profile: string | null;
}

/** Returns what the arguments ask for, which returns what to print; null: the table of all. Throws bad-request. */
function actionFor(
  verb: string,
  [name]: readonly string[],
  { quota, profile }: Given,
): (store: Store) => Promise<string | null> {
  if (name !== undefined && verb === 'set' && quota !== null) return declare(parse(name), quota, profile);
  const isBare = quota === null && profile === null;
  if (verb === 'list' && name === undefined && isBare) return async () => null;
  if (name !== undefined && verb === 'remove' && isBare) return remove(parse(name));
  throw new IpamError('bad-request', 'the arguments are not those of `ec2-ipam tenant`', {
    hint: `give ${USAGE}`,
  });
}
const parse = (name: string): string => parseTenantName(name, 'NAME');

const find = async (store: Store, name: string): Promise<Tenant | undefined> =>
  (await store.tenants()).find(one => one.name === name);

const declare = (name: string, quota: number, profile: string | null) => async (store: Store) => {
  const owner = profile === null ? name : ((await store.tenantProfiles()).get(profile) ?? name);
  if (owner !== name)
    throw new IpamError('conflict', `the instance profile ${profile} is that of tenant ${owner}`, {
      hint: `give ${owner} another one first`,
    });
  await store.saveTenant({ name, quota, profile });
  const used = (await find(store, name))?.used ?? 0;
  const over = used > quota ? '; it gets no further one until it uses less' : '';
  return `tenant ${name} may have ${quota} addresses and uses ${used}${over}\n`;
};

const remove = (name: string) => async (store: Store) => {
  const quota = (await find(store, name))?.quota ?? null;
  if (quota === null)
    throw new IpamError('bad-request', `there is no tenant ${name}`, { hint: 'see `ec2-ipam tenant list`' });
  await store.removeTenant(name);
  return `tenant ${name} has no quota any more\n`;
};

const tenantTable = (all: readonly Tenant[]): string =>
  all.length === 0 ? 'no tenant is declared\n' : table(TENANT_HEAD, all.map(tenantCells));
