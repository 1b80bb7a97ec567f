//! Metrics in the text format of Prometheus, version 0.0.4.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::Write;

use super::table::{Kind, METRICS, Metric, Value};
use super::{BoxMetrics, RuntimeMetrics};

/// A box, as the labels of its metrics name it.
pub struct Labelled {
    pub id: String,
    pub name: Option<String>,
    pub metrics: BoxMetrics,
}

/// All metrics that there are, each family in one place.
pub fn write(runtime: &RuntimeMetrics, boxes: &[Labelled]) -> String {
    let mut text = String::new();
    for metric in METRICS.iter().filter(|metric| !metric.exposed.is_empty()) {
        let samples: Vec<(String, f64)> = match metric.value {
            Value::Runtime(value) => vec![(String::new(), value(runtime) as f64)],
            Value::Box(value) => {
                let sample = |b: &Labelled| value(&b.metrics).map(|value| (labels(b), value));
                boxes.iter().filter_map(sample).collect()
            }
        };
        family(&mut text, metric, &samples);
    }
    text
}

/// Writing to a string cannot fail.
fn family(text: &mut String, metric: &Metric, samples: &[(String, f64)]) {
    if samples.is_empty() {
        return;
    }
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let name = metric.exposed;
    let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (labels, value) in samples {
        let _ = writeln!(text, "{name}{labels} {}", value * metric.scale);
    }
}

fn labels(of: &Labelled) -> String {
    let name = of.name.as_deref().unwrap_or("");
    format!("{{id=\"{}\",name=\"{}\"}}", escaped(&of.id), escaped(name))
}

/// What stands between the quotes of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::BootTiming;
    use super::*;
    use boxlite_protocol::message::Stats;

    fn labelled(id: &str, name: Option<&str>) -> Labelled {
        let stats = Stats { commands: 3, machine_cpu_ms: 1500, ..Stats::default() };
        let metrics = BoxMetrics::new(&stats, None, BootTiming::default());
        Labelled { id: id.into(), name: name.map(Into::into), metrics }
    }

    #[test]
    fn families_stand_together_and_what_is_not_known_is_absent() {
        let runtime = RuntimeMetrics { boxes_created_total: 7, ..RuntimeMetrics::default() };
        let text = write(&runtime, &[labelled("a", Some("n")), labelled("b", None)]);
        assert!(text.contains(
            "# HELP boxlite_boxes_created_total Boxes made.\n\
             # TYPE boxlite_boxes_created_total counter\n\
             boxlite_boxes_created_total 7\n"
        ));
        assert!(text.contains(
            "# TYPE boxlite_box_commands_executed_total counter\n\
             boxlite_box_commands_executed_total{id=\"a\",name=\"n\"} 3\n\
             boxlite_box_commands_executed_total{id=\"b\",name=\"\"} 3\n"
        ));
        assert!(text.contains("machine_cpu_seconds_total{id=\"a\",name=\"n\"} 1.5\n"));
        assert!(!text.contains("guest_memory") && !text.contains("network"));
        assert!(text.ends_with('\n'));
        // Without boxes nothing of them is said.
        assert!(!write(&runtime, &[]).contains("boxlite_box_"));
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(labels(&labelled("i", Some("a\"b\\c\nd"))), r#"{id="i",name="a\"b\\c\nd"}"#);
    }
}
