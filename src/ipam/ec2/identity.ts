/**
 * Of which account and Region a ledger is. To a client of another one `NotFound` and an empty list are true answers, and
 * in a shared subnet it sees the subnet and not the ENIs of others: so what EC2 does not show counts only from a client
 * that EC2 shows another ENI of the ledger's account at the same time.
 */
import type { CloudEni } from '../../cloud/cloud.ts';
import { IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';

/** One fact, so that account and Region are always those of one client. */
const FACT = 'region and account';

/** ENIs of the ledger that are asked for, of which one will do. */
const SHOWN_MAX = 100;

interface Identity {
  readonly region: string;
  readonly account: string;
}

async function identityOf({ store }: IpamContext): Promise<Identity | null> {
  const [region, account] = (await store.fact(FACT))?.split(' ') ?? [];
  return region === undefined || account === undefined ? null : { region, account };
}

/** Notes account and Region, once and for all. To be told of an ENI only that EC2 has shown this client and that is the
 *  ledger's: so a server at the wrong place never makes the ledger one of its own. */
export async function learnIdentity(
  context: IpamContext,
  { owner }: Pick<CloudEni, 'owner'>,
): Promise<Identity | null> {
  const known = await identityOf(context);
  if (known !== null || owner === null) return known;
  await context.store.noteFactOnce(FACT, `${await context.cloud.region()} ${owner}`);
  return await identityOf(context);
}

/** To be called before an ENI that EC2 has shown becomes the ledger's. Throws conflict for one of another account, or that
 *  is shown in another Region; and where the ledger has ENIs already, of which nobody has noted whose they are and EC2
 *  shows this client none. */
export async function refuseForeign(context: IpamContext, eni: CloudEni): Promise<void> {
  const { store, cloud, instance } = context;
  let identity = await identityOf(context);
  const ours = identity === null ? (await store.enis()).filter(one => one.ours) : [];
  const isKnown = ours.length === 0 || ours.some(one => one.id === eni.id);
  // An embedded ledger is an instance's, and so are the ENIs on it.
  if (isKnown || instance !== null) identity ??= await learnIdentity(context, eni);
  else {
    const [shown] = await cloud.enisById(ours.slice(0, SHOWN_MAX).map(one => one.id));
    if (shown === undefined)
      throw new IpamError('conflict', `EC2 shows this server no ENI of its ledger, but ${eni.id}`, {
        hint: 'check its credentials and AWS_REGION; each account and Region needs a ledger of its own',
      });
    identity = await learnIdentity(context, shown);
  }
  if (identity === null) return;
  await checkRegion(context, identity);
  if (eni.owner !== null && eni.owner !== identity.account)
    throw new IpamError(
      'conflict',
      `${eni.id} is of account ${eni.owner}, and the ledger of ${identity.account}`,
      { hint: 'give each account a ledger of its own' },
    );
}

async function checkRegion({ cloud }: IpamContext, { region }: Identity): Promise<void> {
  const ours = await cloud.region();
  if (ours !== region)
    throw new IpamError('conflict', `EC2 is asked in ${ours}, and the ledger is of ${region}`, {
      hint: `set AWS_REGION=${region}, or give each Region a ledger of its own`,
    });
}

/** Throws conflict where this client is of another account or Region than the ledger. One that is shown nothing at all
 *  may be of any: it is warned about, and what it is not shown counts for nothing. */
export async function checkIdentity(context: IpamContext): Promise<void> {
  const identity = await identityOf(context);
  if (identity === null) return;
  await checkRegion(context, identity);
  const { cloud, log } = context;
  if ((await cloud.someEni({ owner: identity.account })) !== null) return;
  const other = await cloud.someEni({});
  if (other === null) {
    log('warn', 'no network interface shown by EC2: deleted ones cannot be told from hidden ones', {
      account: identity.account,
      region: identity.region,
    });
    return;
  }
  throw new IpamError(
    'conflict',
    `the credentials are of account ${other.owner ?? 'nobody knows'}, and the ledger is of ${identity.account}`,
    { hint: 'give the role of that account, or each account a ledger of its own' },
  );
}

/** Throws conflict where EC2 shows this client none of the ledger's ENIs: what it is not shown tells nothing then. */
export async function refuseBlind({ store, cloud }: IpamContext): Promise<void> {
  const ours = (await store.enis()).filter(eni => eni.ours);
  for (let from = 0; from < ours.length; from += SHOWN_MAX) {
    const asked = ours.slice(from, from + SHOWN_MAX).map(eni => eni.id);
    if ((await cloud.enisById(asked)).length > 0) return;
  }
  if (ours.length > 0)
    throw new IpamError('conflict', `EC2 shows this client none of the ledger's ${ours.length} ENIs`, {
      hint: 'check its credentials and AWS_REGION; nothing was compared',
    });
}

/** Whether this client is of the ledger's account and Region by what EC2 has just shown it. */
export async function isProvedBy(context: IpamContext, shown: Iterable<CloudEni>): Promise<boolean> {
  const identity = await identityOf(context);
  if (identity === null || !(await isInRegion(context, identity))) return false;
  for (const { owner } of shown) if (owner === identity.account) return true;
  return false;
}

/** Whether EC2 shows this client another ENI of the ledger's account in the VPC of this one. */
export async function seesAnother(context: IpamContext, id: EniId): Promise<boolean> {
  const identity = await identityOf(context);
  if (identity === null || !(await isInRegion(context, identity))) return false;
  const eni = await context.store.eni(id);
  const subnet = (await context.store.subnets()).find(one => one.id === eni?.subnet);
  if (subnet === undefined) return false;
  return (await context.cloud.someEni({ owner: identity.account, vpc: subnet.vpc, but: id })) !== null;
}

/** Whether there is no such ENI: EC2 says so to a client that it shows another one. False where EC2 does not answer. */
export async function isGone(context: IpamContext, id: EniId): Promise<boolean> {
  try {
    // In this order: credentials that change in between change once.
    if (!(await seesAnother(context, id))) return false;
    await context.cloud.eni(id);
    return false;
  } catch (error) {
    if (isError(error, 'ec2-not-found')) return true;
    if (error instanceof IpamError && error.code.startsWith('ec2-')) return false;
    throw error;
  }
}

async function isInRegion(context: IpamContext, { region }: Identity): Promise<boolean> {
  try {
    return (await context.cloud.region()) === region;
  } catch (error) {
    if (error instanceof IpamError) return false;
    throw error;
  }
}
