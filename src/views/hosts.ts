/** The hosts: their certificates, when their agents were last seen, and what their witnesses last said. */
import * as v from 'valibot';
import { count, text, time } from './shapes.ts';

const HOST_STATES = ['enrolled', 'expired', 'revoked', 'by hand', 'embedded'] as const;

const HostLine = v.object({
  /** Empty: that of an embedded server which does not know its instance. */
  instance: v.string(),
  /** `by hand`: it never enrolled. `embedded`: it is read by a server, and has no certificate. */
  state: v.picklist(HOST_STATES),
  enrolledAt: v.nullable(time),
  expiresAt: v.nullable(time),
  revokedAt: v.nullable(time),
  /** When its agent was connected last. */
  seenAt: v.nullable(time),
  /** When a reading of what it uses was last saved, and why that proves no absence. */
  readAt: v.nullable(time),
  incomplete: text,
  tenants: v.array(v.string()),
  enis: v.array(v.string()),
});
export type HostLine = v.InferOutput<typeof HostLine>;

const TenantLine = v.object({
  name: v.string(),
  /** Null: ENIs name it, but it has no quota. */
  quota: v.nullable(count),
  profile: text,
  used: count,
});

export const HostsView = v.object({
  now: time,
  hosts: v.array(HostLine),
  tenants: v.array(TenantLine),
});
export type HostsView = v.InferOutput<typeof HostsView>;
