/** The errors with which EC2 refuses a call. */
import type { Ipv4 } from '../../domain/address.ts';

/** EC2 refused a call; nothing was changed. `code` and `message` are EC2's, `status` is HTTP's. */
export class Ec2Error extends Error {
  override readonly name = 'Ec2Error';
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status = statusOf(code)) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html: client errors are 400s,
// server errors and throttling 500s.
const STATUSES: Record<string, number> = {
  AuthFailure: 401,
  DryRunOperation: 412,
  MissingAuthenticationToken: 403,
  UnauthorizedOperation: 403,
  InternalError: 500,
  InternalFailure: 500,
  RequestLimitExceeded: 503,
  ServiceUnavailable: 503,
  Unavailable: 503,
};
const statusOf = (code: string): number => STATUSES[code] ?? 400;

const error = (code: string, message: string) => new Ec2Error(code, message);
const invalidValue = (message: string) => error('InvalidParameterValue', message);

/** EC2's refusals, in its own texts where bug reports and code of its users show them. */
export const refuse = {
  taken: (ips: readonly Ipv4[]) => invalidValue(`[${ips.join(', ')}] assigned, but move is not allowed.`),
  takenUnnamed: () => error('InvalidIPAddress.InUse', 'The specified address is already in use.'),
  notAssigned: (eni: string) =>
    invalidValue(`Some of the specified addresses are not assigned to interface ${eni}`),
  primary: (ip: Ipv4) =>
    invalidValue(
      `Value (${ip}) for parameter privateIpAddress is invalid. The primary IP address of an interface cannot be unassigned.`,
    ),
  reserved: (ip: Ipv4) => invalidValue(`Address ${ip} is in subnet's reserved address range`),
  outside: (ip: Ipv4) => invalidValue(`Address ${ip} does not fall within the subnet's address range`),
  /** The code is EC2's; its text is not known. */
  inPrefixReservation: (ip: Ipv4, cidr: string) =>
    invalidValue(`Address ${ip} is in the subnet's CIDR reservation ${cidr} of type prefix`),
  /** EC2's code and text are not known. */
  withoutIpv4: () => error('UnsupportedOperation', 'The network interface does not support IPv4 addresses'),
  notAnAddress: (text: string) => invalidValue(`invalid value for parameter address: ${text}`),
  badPrefix: (text: string) => invalidValue(`invalid value for parameter prefix: ${text}`),
  repeated: (ip: Ipv4) => invalidValue(`Address ${ip} is given more than once`),
  badCount: (count: number) =>
    invalidValue(`Value (${count}) for parameter secondaryPrivateIpAddressCount is invalid.`),
  overLimit: () => error('PrivateIpAddressLimitExceeded', 'Number of private addresses will exceed limit.'),
  subnetFull: (subnet: string) =>
    error(
      'InsufficientFreeAddressesInSubnet',
      `The specified subnet '${subnet}' does not contain enough free private IP addresses to complete the request.`,
    ),
  noSuchEni: (id: string) =>
    error('InvalidNetworkInterfaceID.NotFound', `The networkInterface ID '${id}' does not exist`),
  noSuchSubnet: (id: string) => error('InvalidSubnetID.NotFound', `The subnet ID '${id}' does not exist`),
  noSuchInstance: (id: string) =>
    error('InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`),
  noSuchAttachment: (id: string) =>
    error('InvalidAttachmentID.NotFound', `The attachment ID '${id}' does not exist`),
  noSuchInstanceType: (type: string) =>
    error('InvalidInstanceType', `The following supplied instance types do not exist: [${type}]`),
  listAndCount: () =>
    error(
      'InvalidParameterCombination',
      'The parameters privateIpAddresses and secondaryPrivateIpAddressCount may not be used together',
    ),
  /** EC2's text is not known. */
  addressesAndPrefixes: () =>
    error(
      'InvalidParameterCombination',
      'The parameters privateIpAddresses and ipv4Prefixes may not be used together',
    ),
  missing: (parameter: string) =>
    error('MissingParameter', `The request must contain the parameter ${parameter}`),
  notYours: () => error('AuthFailure', 'You do not have permission to access the specified resource.'),
  inUse: (eni: string) => invalidValue(`Network interface '${eni}' is currently in use.`),
  deviceTaken: (instance: string, index: number) =>
    invalidValue(`Instance '${instance}' already has an interface attached at device index '${index}'.`),
  deviceZero: () =>
    error('OperationNotPermitted', 'The network interface at device index 0 cannot be detached.'),
  tooManyEnis: (count: number, type: string) =>
    error('AttachmentLimitExceeded', `Interface count ${count} exceeds the limit for ${type}`),
  otherZone: () =>
    error(
      'InvalidParameterCombination',
      'You may not attach a network interface to an instance if they are not in the same availability zone',
    ),
  notRunning: (instance: string) =>
    error('IncorrectState', `Instance '${instance}' is not 'running' or 'stopped'.`),
  unauthorized: () => error('UnauthorizedOperation', 'You are not authorized to perform this operation.'),
  dryRun: () => error('DryRunOperation', 'Request would have succeeded, but DryRun flag is set.'),
  throttled: () => error('RequestLimitExceeded', 'Request limit exceeded.'),
  paginate: () =>
    error('OperationNotPermitted', 'The result is too large for one answer. Use MaxResults to paginate it.'),
  badMaxResults: (text: string) =>
    invalidValue(
      `Value ( ${text} ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.`,
    ),
  idsAndPages: () =>
    error(
      'InvalidParameterCombination',
      'The parameter networkInterfaceIdSet cannot be used with the parameter maxResults',
    ),
  invalidInteger: (name: string, text: string) =>
    invalidValue(`Value (${text}) for parameter ${name} is invalid. It must be an integer.`),
  invalidFlag: (name: string, text: string) =>
    invalidValue(`Value (${text}) for parameter ${name} is invalid. It must be true or false.`),
  badToken: () => invalidValue('Value for parameter nextToken is invalid.'),
  badFilter: (name: string) => invalidValue(`The filter '${name}' is invalid`),
  tooManyFilterValues: () =>
    error('FilterLimitExceeded', 'The maximum number of filter values specified on a single call is 200'),
} as const;
