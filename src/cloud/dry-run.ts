/**
 * Asks EC2 whether it would permit the changes of an ENI, without making them: DryRun.
 * https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html has the two answers. The SDK has no such
 * field for these two calls, so it is put into the request before the signature.
 */
import { AssignPrivateIpAddressesCommand, UnassignPrivateIpAddressesCommand } from '@aws-sdk/client-ec2';
import type { Ipv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import type { EniId } from '../domain/ids.ts';
import type { ChangeKind } from './cloud.ts';
import { AFTER_SIGNING, createEc2Call, type Ec2Call, type Ec2Options, isFormed } from './ec2-call.ts';

/** `ignored`: the endpoint carried the call out, or says so. `other`: it refused for another reason than a missing right. */
export type DryRunAnswer =
  | { readonly kind: 'allowed' | 'denied' | 'ignored' }
  | { readonly kind: 'other'; readonly code: string };

export interface Rights {
  readonly unassign: DryRunAnswer;
  /** Null: it was not asked, since the endpoint was not seen to know DryRun. */
  readonly assign: DryRunAnswer | null;
}
/** What the calls name, so that they would change nothing even if they were carried out: to take the subnet's router off
 *  the ENI, and to put its primary address on it. */
export interface Harmless {
  readonly eni: EniId;
  readonly primary: Ipv4;
  readonly router: Ipv4;
}

/** Asks for both rights. To assign is asked for only when DryRun was answered to unassign: moto does not know it and
 *  would assign. Throws IpamErrors as other calls do. */
export type AskRights = (what: Harmless) => Promise<Rights>;

/** EC2 itself, or what AWS_ENDPOINT_URL_EC2 puts in its place. */
export function createAskRights(options: Ec2Options): AskRights {
  const call = createEc2Call(options);
  return async ({ eni, primary, router }) => {
    const unassign = await dryRun(call, 'unassign', eni, router);
    const isKnown = unassign.kind === 'allowed';
    return { unassign, assign: isKnown ? await dryRun(call, 'assign', eni, primary) : null };
  };
}

function dryRun(call: Ec2Call, verb: ChangeKind, eni: EniId, ip: Ipv4): Promise<DryRunAnswer> {
  const input = { NetworkInterfaceId: eni, PrivateIpAddresses: [ip] };
  const command = (
    verb === 'assign'
      ? new AssignPrivateIpAddressesCommand(input)
      : new UnassignPrivateIpAddressesCommand(input)
  ) as AssignPrivateIpAddressesCommand;
  command.middlewareStack.add(withDryRun, { step: 'build', priority: 'high', name: 'withDryRun' });
  command.middlewareStack.addRelativeTo(onlyDryRun, { ...AFTER_SIGNING, name: 'onlyDryRun' });
  const action = `${verb === 'assign' ? 'Assign' : 'Unassign'}PrivateIpAddresses`;
  return call(action, async (client, limits) => {
    try {
      await client.send(command, limits);
      return { kind: 'ignored' };
    } catch (error) {
      if (!isFormed(error) || (error.$metadata.httpStatusCode ?? 500) >= 500) throw error;
      return answerOf(error.name);
    }
  });
}

const answerOf = (code: string): DryRunAnswer =>
  code === 'DryRunOperation'
    ? { kind: 'allowed' }
    : code === 'UnauthorizedOperation'
      ? { kind: 'denied' }
      : { kind: 'other', code };

interface Sent {
  readonly request: { body?: unknown; headers: Record<string, string> };
}
type Next = (args: never) => Promise<unknown>;

/** The body gets its length and its signature later. */
const withDryRun = <Handler extends Next>(next: Handler): Handler =>
  (async (args: Sent) => {
    args.request.body = `${args.request.body}&DryRun=true`;
    return next(args as never);
  }) as never;

/** After the signature: lets no request pass that would not be a DryRun. */
export const onlyDryRun = <Handler extends Next>(next: Handler): Handler =>
  (async (args: Sent) => {
    const { body, headers } = args.request;
    const isWhole = typeof body === 'string' && headers['content-length'] === `${Buffer.byteLength(body)}`;
    if (!isWhole || `${new URLSearchParams(body).getAll('DryRun')}` !== 'true')
      throw new IpamError('internal', 'not sent: the request is no DryRun');
    return next(args as never);
  }) as never;
