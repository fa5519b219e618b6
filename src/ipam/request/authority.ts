/** Whether a request may use its ENI: by EC2's word, where the client's certificate names an instance. */
import type { EniId } from '../../domain/ids.ts';
import type { Origin } from '../../domain/origin.ts';
import type { Attachments } from '../ec2/attachments.ts';

/** The right of one request to its ENI. It may end while the request waits. */
export interface Authority {
  /** Whether it is proved now. */
  isProved(): boolean;
  /** Resolves when it is proved. Throws denied when it is not, and ec2-… when EC2 does not say. */
  prove(): Promise<void>;
}

/** The right of clients that may use every ENI. */
const EVERYWHERE: Authority = { isProved: () => true, prove: async () => {} };

export function authorityOver(attachments: Attachments, eni: EniId, { instance }: Origin): Authority {
  if (instance === null) return EVERYWHERE;
  return {
    isProved: () => attachments.isShown(eni, instance),
    prove: () => attachments.prove(eni, instance),
  };
}
