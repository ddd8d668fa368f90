// The saga as Restate's documentation writes it: a handler of `ctx.run` steps, with the undoing collected on the way.
//
//     node restate_saga.mjs PORT PARTICIPANT_ADDRESS PROTO_FOLDER
import * as restate from "@restatedev/restate-sdk";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

// The SDK expects Node 22; on Node 20 this is all it lacks.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

const [port, target, protos] = process.argv.slice(2);
const definition = loader.loadSync("saga/v1/participant_service.proto", { includeDirs: [protos], keepCase: true });
const { ParticipantService } = grpc.loadPackageDefinition(definition).saga.v1;
const participant = new ParticipantService(target, grpc.credentials.createInsecure());

const call = (method, request) =>
  new Promise((resolve, reject) => {
    participant[method](request, { deadline: Date.now() + 10_000 }, (error) => {
      if (!error) resolve(request.idempotency_key);
      else if (error.code === grpc.status.FAILED_PRECONDITION) reject(new restate.TerminalError(error.details));
      else reject(error);
    });
  });

const request = (saga_id, step, refused) => ({
  idempotency_key: `${saga_id}/${step}`,
  saga_id,
  step,
  method: "perform",
  attempt: 1,
  input: { structValue: { fields: { refuse: { stringValue: refused }, order: { numberValue: 1 } } } },
});

const order = restate.service({
  name: "order",
  handlers: {
    run: async (ctx, { refused }) => {
      const id = ctx.request().id.toString();
      const compensations = [];
      try {
        for (const step of ["first", "second", "third"]) {
          await ctx.run(step, () => call("Execute", request(id, step, refused)));
          compensations.unshift(() => {
            const undo = { ...request(id, step, ""), action_idempotency_key: `${id}/${step}` };
            return ctx.run(`undo ${step}`, () => call("Compensate", { ...undo, idempotency_key: `${id}/${step}/undo` }));
          });
        }
      } catch (error) {
        if (!(error instanceof restate.TerminalError)) throw error;
        for (const compensate of compensations) await compensate();
        return "compensated";
      }
      return "completed";
    },
  },
});

restate.serve({ services: [order], port: Number(port) });
