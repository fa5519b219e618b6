/**
 * Checks that the EC2 client belongs to the account and Region of the ledger. A client of another account or Region
 * gets `NotFound` or an empty list for ENIs that exist; in a shared subnet it sees the subnet but not the ENIs of
 * other accounts. So a missing ENI counts only if EC2 shows the client another ENI of the ledger's account at the
 * same time.
 */
import type { CloudEni } from '../../cloud/cloud.ts';
import { IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';

/** Account and Region are one fact, so that both come from the same client. */
const FACT = 'region and account';

/** ENIs of the ledger that one call asks for. One that is shown is enough. */
const SHOWN_MAX = 100;

interface Identity {
  readonly region: string;
  readonly account: string;
}

async function identityOf({ store }: IpamContext): Promise<Identity | null> {
  const [region, account] = (await store.fact(FACT))?.split(' ') ?? [];
  return region === undefined || account === undefined ? null : { region, account };
}

/** Records the account and Region of the ledger, unless they are recorded already; returns the record. Pass only an
 *  ENI of the ledger that EC2 has shown this client: otherwise a server with wrong credentials could record its own
 *  account. */
export async function learnIdentity(
  context: IpamContext,
  { owner }: Pick<CloudEni, 'owner'>,
): Promise<Identity | null> {
  const known = await identityOf(context);
  if (known !== null || owner === null) return known;
  await context.store.noteFactOnce(FACT, `${await context.cloud.region()} ${owner}`);
  return await identityOf(context);
}

/** Call this before an ENI that EC2 has shown becomes the ledger's. Throws conflict if the ENI is of another
 *  account or Region. Also throws conflict if the ledger has ENIs but no recorded account, and EC2 shows this
 *  client none of them. */
export async function refuseForeign(context: IpamContext, eni: CloudEni): Promise<void> {
  const { store, cloud, host } = context;
  let identity = await identityOf(context);
  const ours = identity === null ? (await store.enis()).filter(one => one.ours) : [];
  const isKnown = ours.length === 0 || ours.some(one => one.id === eni.id);
  // An embedded ledger belongs to its instance, and so do the ENIs of that instance.
  if (isKnown || host.instance !== null) identity ??= await learnIdentity(context, eni);
  else {
    const [shown] = await cloud.enisById(ours.slice(0, SHOWN_MAX).map(one => one.id));
    if (shown === undefined)
      throw new IpamError('conflict', `EC2 shows this server ${eni.id} and no ENI of its ledger`, {
        hint: 'check its credentials and AWS_REGION; each account and Region needs a ledger of its own',
      });
    identity = await learnIdentity(context, shown);
  }
  if (identity === null) return;
  await checkRegion(context, identity);
  if (eni.owner !== null && eni.owner !== identity.account)
    throw new IpamError(
      'conflict',
      `${eni.id} belongs to account ${eni.owner}, the ledger to ${identity.account}`,
      { hint: 'give each account a ledger of its own' },
    );
}

async function checkRegion({ cloud }: IpamContext, { region }: Identity): Promise<void> {
  const ours = await cloud.region();
  if (ours !== region)
    throw new IpamError('conflict', `the EC2 client is in ${ours}, the ledger in ${region}`, {
      hint: `set AWS_REGION=${region}, or give each Region a ledger of its own`,
    });
}

/** Throws conflict if this client is of another account or Region than the ledger. A client that EC2 shows no ENI
 *  at all cannot be judged: it causes a warning, and an ENI that is missing for it does not count as deleted. */
export async function checkIdentity(context: IpamContext): Promise<void> {
  const identity = await identityOf(context);
  if (identity === null) return;
  await checkRegion(context, identity);
  const { cloud, log } = context;
  if ((await cloud.someEni({ owner: identity.account })) !== null) return;
  const other = await cloud.someEni({});
  if (other === null) {
    log('warn', 'no network interface shown by EC2, deleted ones not told from hidden ones', {
      account: identity.account,
      region: identity.region,
    });
    return;
  }
  throw new IpamError(
    'conflict',
    `the credentials belong to account ${other.owner ?? '(unknown)'}, the ledger to ${identity.account}`,
    { hint: 'use credentials of that account, or give each account a ledger of its own' },
  );
}

/** Throws conflict if EC2 shows this client none of the ledger's ENIs: then a missing ENI proves nothing. */
export async function refuseUnproved({ store, cloud }: IpamContext): Promise<void> {
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

/** Returns whether the ENIs that EC2 has just shown prove that this client is of the ledger's account and Region. */
export async function isProvedBy(context: IpamContext, shown: Iterable<CloudEni>): Promise<boolean> {
  const identity = await identityOf(context);
  if (identity === null || !(await isInRegion(context, identity))) return false;
  for (const { owner } of shown) if (owner === identity.account) return true;
  return false;
}

/** Returns whether EC2 shows this client another ENI of the ledger's account in the VPC of this one. */
export async function seesAnother(context: IpamContext, id: EniId): Promise<boolean> {
  const identity = await identityOf(context);
  if (identity === null || !(await isInRegion(context, identity))) return false;
  const eni = await context.store.eni(id);
  const subnet = (await context.store.subnets()).find(one => one.id === eni?.subnet);
  if (subnet === undefined) return false;
  return (await context.cloud.someEni({ owner: identity.account, vpc: subnet.vpc, but: id })) !== null;
}

/** Returns whether the ENI is deleted: EC2 answers NotFound to a client to which it shows another ENI. False if EC2
 *  does not answer. */
export async function isGone(context: IpamContext, id: EniId): Promise<boolean> {
  try {
    // In this order: callers have had a NotFound before, so that one change of credentials cannot fake both.
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
