// A client on npm mqtt, which comes back by itself: node mqtt_client.mjs URL
import mqtt from "mqtt";
import { Answers, failed, obey, tell } from "./client.mjs";

const client = mqtt.connect(`${process.argv[2]}/mqtt`);
const answers = new Answers();

client.on("connect", () => client.subscribe("answers", (error) => (error ? failed(error) : tell("ready"))));
client.on("close", () => tell("closed"));
client.on("error", (error) => tell("error", { message: error.message }));
client.on("message", (topic, body) => answers.heard(body.toString()));

obey({
  exchange: () => answers.to((text) => client.publish("answers", text)),
  end: () => client.endAsync(),
});
